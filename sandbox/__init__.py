"""Stateful Jupyter kernels for model-written Python: leased, bounded, replaced when lost.

    from sandbox import KernelPool, for_model

What is named here is loaded when it is asked for: a kernel's own process imports this package too,
and needs none of it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.isolation import IsolationError
    from sandbox.limits import Limits
    from sandbox.pool import KernelPool
    from sandbox.result import ExecutionResult, ExecutionStatus, for_model

__all__ = [
    "ExecutionResult",
    "ExecutionStatus",
    "IsolationError",
    "KernelPool",
    "Limits",
    "for_model",
]

_WHERE = {
    "ExecutionResult": "result",
    "ExecutionStatus": "result",
    "IsolationError": "isolation",
    "KernelPool": "pool",
    "Limits": "limits",
    "for_model": "result",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'sandbox' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sandbox.{_WHERE[name]}"), name)
