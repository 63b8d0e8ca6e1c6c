"""What every engine refuses before it begins: ids, lengths and parameters that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

from solver.errors import EngineError
from solver.types import SamplingParams


def check_ids(token_ids: Sequence[int], num_ids: int) -> None:
    """Raise `EngineError` unless there are ids, all of them from 0 to below `num_ids`."""
    if not len(token_ids):
        raise EngineError("there are no token ids to continue")
    if min(token_ids) < 0 or max(token_ids) >= num_ids:
        raise EngineError(f"token ids must be from 0 to {num_ids - 1}")


def check_request(token_ids: Sequence[int], params: SamplingParams, num_ids: int) -> None:
    """Raise `EngineError` for ids or parameters that nothing can be sampled from."""
    check_ids(token_ids, num_ids)
    if params.max_tokens < 1:
        raise EngineError(f"max_tokens must be at least 1, not {params.max_tokens}")


def check_length(length: int, context_length: int, num_new: int = 0) -> None:
    """Raise `EngineError` unless `length` ids and `num_new` sampled ones fit into the context."""
    if length + num_new > context_length:
        raise EngineError(f"{length} token ids do not fit into the context of {context_length}")
