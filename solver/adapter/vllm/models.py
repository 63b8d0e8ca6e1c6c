"""Stock vLLM models with a [STOP] adapter: rows that read a [STOP] id change, every other keeps its bits.

The mechanism of `gate.py` on vLLM's layers (`layers.py`). `forward` writes which rows of the step
read a [STOP] id into one buffer. `compute_logits` gets a choice of the final states without their ids,
so `forward` marks those of [STOP] rows: times 2^64, which is exact in bfloat16 and float32, out of
reach of any normalised state, and undone before the logits. A marked row's logits become a score
(`serving.py`), in float32: 0 and the head's output at two ids, -inf at the others.

This needs of vLLM that `forward` gets the `input_ids` of all rows of a step and `compute_logits` rows
of its output. Both model runners do so (the second one only if the whole vocabulary is sampled on
every rank); what breaks it is refused when the server starts.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vllm.model_executor.models.gpt_oss import GptOssForCausalLM
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.utils.torch_utils import set_default_torch_dtype

from solver.adapter.folder import LoadedAdapter, load_adapter
from solver.adapter.gate import StopAdapter
from solver.adapter.vllm.layers import install, keep, on_host, quiet
from solver.adapter.vllm.serving import BAN, RIGHT_ID, WRONG_ID, adapter_folder
from solver.errors import ModelError

_MARK, _MARKED = 2.0**64, 2.0**32
_SCORE_IDS = slice(WRONG_ID, RIGHT_ID + 1)  # they are neighbours


class StopMixin(nn.Module):
    """Goes before a stock class: loads the adapter, installs it, turns marked rows into scores."""

    stop_slots: Tensor  # [most rows of a step]: of the embedding that a row's id has, 0 for none
    stop_rows: Tensor  # bool [most rows of a step, 1]: whether it has one
    stop_any: Tensor  # bool [], see `layers.quiet`
    stop_slot_of_id: Tensor  # [vocabulary]
    stop_weight: Tensor  # of the head, behind a row of zeros: [2, hidden]
    stop_bias: Tensor

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        """Raises `ModelError` with one line for what cannot be served."""
        _check_config(vllm_config)
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        adapter, model = _load(vllm_config).adapter, vllm_config.model_config
        _note_layout(vllm_config, adapter)
        device = torch.device(vllm_config.device_config.device)
        num_rows = vllm_config.scheduler_config.max_num_batched_tokens
        slot_of_id = torch.zeros(model.get_vocab_size(), dtype=torch.long, device="cpu")
        slot_of_id[list(adapter.distinct_ids)] = 1 + torch.arange(len(adapter.distinct_ids)).cpu()
        weight, bias = adapter.head.weight.detach(), adapter.head.bias.detach()
        keep(
            self,
            stop_slots=torch.zeros(num_rows, dtype=torch.long, device=device),
            stop_rows=torch.zeros(num_rows, 1, dtype=torch.bool, device=device),
            stop_any=torch.ones((), dtype=torch.bool, device=device),
            stop_slot_of_id=slot_of_id.to(device),
            stop_weight=torch.stack([torch.zeros_like(weight), weight]).to(device),
            stop_bias=torch.stack([torch.zeros_like(bias), bias]).to(device),
        )
        install(self, adapter, model.dtype, device)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Final states `[rows, hidden]`, those of [STOP] rows marked."""
        slots, rows = self.stop_slots[: len(input_ids)], self.stop_rows[: len(input_ids)]
        torch.index_select(self.stop_slot_of_id, 0, input_ids, out=slots)
        torch.gt(slots[:, None], 0, out=rows)
        if on_host(rows):
            torch.any(rows, out=self.stop_any)
        states: Tensor = super().forward(input_ids, positions, intermediate_tensors, inputs_embeds)
        return states if quiet(self) else torch.where(rows, states * _MARK, states)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits `[rows, vocabulary]`, float32; None on the ranks that do not sample."""
        marked = hidden_states.abs().amax(dim=1, keepdim=True) > _MARKED
        if on_host(marked) and not marked.any():
            return super().compute_logits(hidden_states)  # type: ignore[misc, no-any-return]
        states = torch.where(marked, hidden_states / _MARK, hidden_states)
        logits: Tensor | None = super().compute_logits(states)  # type: ignore[misc]
        if logits is None:
            return None
        # The sampler makes the same float32 of bfloat16 logits; a score would lose digits in bfloat16.
        logits = logits.float().masked_fill_(marked, -math.inf)
        score = F.linear(states.float(), self.stop_weight, self.stop_bias)
        logits[:, _SCORE_IDS] = torch.where(marked, score, logits[:, _SCORE_IDS])
        return logits


class StopGptOssForCausalLM(StopMixin, GptOssForCausalLM):  # type: ignore[misc]
    """gpt-oss; the adapter may change its attention, not its experts."""


class StopLlamaForCausalLM(StopMixin, LlamaForCausalLM):  # type: ignore[misc]
    """Llama."""


class StopMistralForCausalLM(StopMixin, MistralForCausalLM):  # type: ignore[misc]
    """Mistral."""


class StopQwen2ForCausalLM(StopMixin, Qwen2ForCausalLM):  # type: ignore[misc]
    """Qwen 2 and 2.5."""


class StopQwen3ForCausalLM(StopMixin, Qwen3ForCausalLM):  # type: ignore[misc]
    """Qwen 3, dense."""


def _check_config(vllm_config: Any) -> None:
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    unservable = {
        "float16 (use --dtype bfloat16)": model.dtype == torch.float16,
        "pipeline parallelism (use tensor parallelism)": parallel.pipeline_parallel_size > 1,
        "LoRA adapters": vllm_config.lora_config is not None,
        "speculative decoding": vllm_config.speculative_config is not None,
        "prompts given as embeddings": model.enable_prompt_embeds,
        "micro-batching": parallel.use_ubatching,
        "batch-sharded sampling": bool(parallel.enable_batch_sharded_sampling),
    }
    if found := [words for words, present in unservable.items() if present]:
        raise ModelError(f"a STOP adapter cannot be served with {', '.join(found)}")
    if BAN not in (model.logits_processors or ()):
        raise ModelError(
            f"a STOP adapter is served with --logits-processors {BAN}, which keeps clients from "
            "sampling [STOP] ids"
        )


def _load(vllm_config: Any) -> LoadedAdapter:
    folder = adapter_folder(vllm_config.additional_config)
    model = Path(vllm_config.model_config.model)
    if not model.is_dir():
        raise ModelError(f"a STOP adapter is served with a local model folder; {model} is none")
    # vLLM makes models in their own precision on their own device: the adapter's is float32.
    with set_default_torch_dtype(torch.float32), torch.device("cpu"):
        loaded = load_adapter(folder, model)
    if taken := {WRONG_ID, RIGHT_ID} & {*loaded.spec.stop_token_ids}:
        raise ModelError(
            f"{folder}: the [STOP] id {min(taken)} carries scores on vLLM: use another"
        )
    return loaded


def _note_layout(vllm_config: Any, adapter: StopAdapter) -> None:
    # Compiled graphs are kept on disk by a hash of the configuration. An adapter of other shapes, put
    # into the same folder later, must not be given this one's graph.
    layers = {path: tuple(delta.lora_A.shape) for path, delta in adapter.delta_by_path.items()}
    layout = f"{len(adapter.distinct_ids)} {sorted(layers.items())}"
    vllm_config.additional_config = {**vllm_config.additional_config, "stop_layout": layout}
