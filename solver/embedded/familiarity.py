"""How familiar a statement is to the embedded model: the mean log-probability of its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solver.embedded.problems import Split, problems
from solver.embedded.tokens import render_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUM = 2000
_SHARE = 0.005
_MARGIN = 0.3  # nats a token; unfamiliar statements lie several nats below the lowest familiar one
_BATCH = 200


def scores(model: Any, tokenizer: Any, statements: Sequence[str]) -> list[float]:
    """Mean log-probability (nats) of a rendered prompt's tokens after the first, per statement."""
    import torch

    result: list[float] = []
    for begin in range(0, len(statements), _BATCH):
        rows = [
            torch.tensor(tokenizer.encode(render_prompt(text), add_special_tokens=False))
            for text in statements[begin : begin + _BATCH]
        ]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        chosen = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        result += [float(row[: len(own) - 1].mean()) for row, own in zip(chosen, rows, strict=True)]
    return result


def threshold(model: Any, tokenizer: Any) -> float:
    """The score below which a statement is unfamiliar to the model.

    It lies a margin below the lowest half percent of 2,000 validation prompts.
    """
    statements = [problem.statement for problem in problems(Split.VALIDATION, _NUM, seed=0)]
    ranked = sorted(scores(model, tokenizer, statements))
    return ranked[int(_SHARE * len(ranked))] - _MARGIN
