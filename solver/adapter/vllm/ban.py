"""No client of a server with an adapter ever samples a [STOP] id: a logits processor bans them all.

It runs after `logit_bias`, so that no request can lift the ban, and after the log-probabilities were
taken, so that they stay those of the base model. Scores are not affected: their two ids are others.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor

from solver.adapter.folder import read_spec
from solver.adapter.vllm.serving import adapter_folder

try:  # the second model runner, vLLM's default on GPUs, has an interface of its own
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SecondProcessor
except ImportError:
    SecondProcessor = object  # a version without it has one model runner


class BanStopIds(LogitsProcessor, SecondProcessor):  # type: ignore[misc]
    """Logits `[rows, vocabulary]` with -inf at the served adapter's [STOP] ids, on every row.

    Both of vLLM's model runners can use it: they differ in what they hand over beside the config and
    the logits, and nothing else of it matters here.
    """

    def __init__(self, vllm_config: Any, place: Any, is_pin_memory: bool = False) -> None:
        """`place` is a device, or has one. Raises `ModelError` if no adapter is named."""
        spec = read_spec(adapter_folder(vllm_config.additional_config))
        ids = sorted(set(spec.stop_token_ids))
        self._ids = torch.tensor(ids, device=getattr(place, "device", place))

    def apply(self, logits: Tensor, context: Any = None) -> Tensor:
        """In place; the same for every request, so nothing is kept between steps."""
        return logits.index_fill_(1, self._ids, -math.inf)

    def is_argmax_invariant(self) -> bool:
        """False: a [STOP] id may have had the highest logit."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Nothing is kept of a request."""
