"""Where torch computes: its OpenMP threads belong to the thread that calls it, and idle with that one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread that ends with it, and wait. Raises what it raises.

    Once there are more OpenMP threads in a process than processors, GNU's runtime no longer lets them
    spin at the end of a parallel loop but puts them to sleep, idle ones of other threads counted: a step of
    the engine then takes up to twice as long. So whoever computes beside the engine leaves none behind.
    """
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(function, *args, **kwargs).result()
