"""What a server's log says: how far a start is, why it failed, and what would need less memory. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from textwrap import shorten

from solver.engines.vllm.command import Room

_PREFIX = re.compile(
    r"^(?:\([^()]*\)\s*)*(?:(?:DEBUG|INFO|WARNING|ERROR)\b[\d :.,-]*(?:\[[^\]]*\]\s*)?)?"
)
_ERROR = re.compile(
    r"\b[A-Za-z_.]*(?:Error|Exception|Interrupt): \S|\berror: \S|^\s*Value error, \S"
)
_WORDS = re.compile(r"[a-z]{2,}\S* \S*[a-z]{2}")
_SHOWN = 200
_PORT_TAKEN = re.compile("address already in use", re.IGNORECASE)
_DEVICE_FULL = re.compile(r"(?:CUDA|HIP)(?: error:)? out of memory|OutOfMemoryError", re.IGNORECASE)
_DEVICE_TAKEN = re.compile(r"Free memory on device [^(]*\(([\d.]+)/([\d.]+) GiB\)")
_NO_CACHE = re.compile(
    "No available memory for the cache blocks|larger than the available KV cache memory"
)
_LONGEST = re.compile(r"estimated maximum model length is (\d+)")
_KILLED = re.compile(r"Failed core proc\(s\): \{[^}]*: -9\b|\boom-kill|Out of memory: Killed")
_SIGKILL = 137
_HIGHEST, _STEP, _SPARE, _LOWEST = 0.95, 0.1, 0.01, 0.05  # shares of a GPU's memory


def message(line: str) -> str:
    """A line of the log without process, level, time and place."""
    return shorten(_PREFIX.sub("", line, count=1), _SHOWN, placeholder=" ...")


def progress(lines: Sequence[str]) -> str:
    """The last line that says something in words and is no warning."""
    said = (message(line) for line in reversed(lines) if "Warning:" not in line)
    return next((words for words in said if _WORDS.search(words)), "nothing said yet")


def cause(lines: Sequence[str]) -> str:
    """The most telling error of a server that ended: the last one before vLLM sums up. Empty if none."""
    errors = [message(line) for line in lines if _ERROR.search(line)]
    root = [error for error in errors if "See root cause above" not in error]
    return (root or errors or [""])[-1]


def port_was_taken(lines: Sequence[str]) -> bool:
    """Whether somebody else listens on the port it was given."""
    return any(_PORT_TAKEN.search(line) for line in lines)


def with_less(
    room: Room, lines: Sequence[str], exit_code: int | None, *, length_is_free: bool
) -> Room | None:
    """What to try after a start that failed for lack of memory; None if it failed otherwise.

    - Others hold part of the GPU: the log says what is free, and 1% of the GPU is left spare.
    - The GPU ran full: what vLLM does not plan for (graphs, communication, fragments) lies outside
      of the share it may plan, so that share shrinks by a tenth of the GPU.
    - No room for the KV cache: a smaller share would make that worse, so it grows to 0.95 at most,
      and a context length that was left to us becomes the longest that vLLM says would fit.
    - The system killed it: the cache of a server on a CPU is halved.

    In all cases but the first half as many sequences run at once, which shrinks what a step needs.
    """
    text = "\n".join(lines)
    fewer = replace(room, max_num_seqs=max(1, room.max_num_seqs // 2))
    if taken := _DEVICE_TAKEN.search(text):
        free = math.floor(100 * (float(taken[1]) / float(taken[2]) - _SPARE)) / 100
        return replace(room, gpu_memory_utilization=free) if free >= _LOWEST else None
    if _NO_CACHE.search(text):
        share = max(room.gpu_memory_utilization, _HIGHEST)
        longest = _LONGEST.search(text) if length_is_free else None
        length = int(longest[1]) if longest else room.max_model_len
        return replace(fewer, gpu_memory_utilization=share, max_model_len=length)
    if _DEVICE_FULL.search(text):
        share = round(room.gpu_memory_utilization - _STEP, 2)
        return replace(fewer, gpu_memory_utilization=max(share, _LOWEST))
    if exit_code == _SIGKILL or _KILLED.search(text):
        return replace(fewer, cpu_cache_gib=max(1, room.cpu_cache_gib // 2))
    return None


def difference(before: Room, after: Room) -> str:
    """What another try changes, in words."""
    old = asdict(before)
    return ", ".join(
        f"{key} {value} (was {old[key] or 'the longest'})"
        for key, value in asdict(after).items()
        if value != old[key]
    )
