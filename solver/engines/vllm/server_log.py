"""Reads a server's log: how far a start is, why it failed, and which settings need less memory."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from textwrap import shorten

from solver.engines.vllm.command import MemorySettings

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
    """A line of the log without its process, level, time and source."""
    return shorten(_PREFIX.sub("", line, count=1), _SHOWN, placeholder=" ...")


def progress(lines: Sequence[str]) -> str:
    """The last line that has words and is no warning."""
    said = (message(line) for line in reversed(lines) if "Warning:" not in line)
    return next((words for words in said if _WORDS.search(words)), "no message yet")


def cause(lines: Sequence[str]) -> str:
    """The error that ended a server: the last one before vLLM's own summary. Empty if there is none."""
    errors = [message(line) for line in lines if _ERROR.search(line)]
    root = [error for error in errors if "See root cause above" not in error]
    return (root or errors or [""])[-1]


def port_was_taken(lines: Sequence[str]) -> bool:
    """Whether another process listens on the port that the server was given."""
    return any(_PORT_TAKEN.search(line) for line in lines)


def reduced_memory(
    memory: MemorySettings, lines: Sequence[str], exit_code: int | None, *, length_is_free: bool
) -> MemorySettings | None:
    """Settings for a second start after one that failed for lack of memory; None if it failed otherwise.

    - Other processes hold part of the GPU: the share becomes what the log says is free, less 1%.
    - The GPU ran full: vLLM's graphs, communication buffers and fragments are not counted in its share
      of the memory, so that share is reduced by 0.1.
    - No space for the KV cache: a smaller share would make that worse, so it is raised to 0.95, and a
      context length that the user did not set becomes the longest that vLLM says would fit.
    - The system killed it: the cache of a server on a CPU is halved.

    In all cases but the first, half as many sequences run at once, so that a step needs less memory.
    """
    text = "\n".join(lines)
    fewer = replace(memory, max_num_seqs=max(1, memory.max_num_seqs // 2))
    if taken := _DEVICE_TAKEN.search(text):
        free = math.floor(100 * (float(taken[1]) / float(taken[2]) - _SPARE)) / 100
        return replace(memory, gpu_memory_utilization=free) if free >= _LOWEST else None
    if _NO_CACHE.search(text):
        share = max(memory.gpu_memory_utilization, _HIGHEST)
        longest = _LONGEST.search(text) if length_is_free else None
        length = int(longest[1]) if longest else memory.max_model_len
        return replace(fewer, gpu_memory_utilization=share, max_model_len=length)
    if _DEVICE_FULL.search(text):
        share = round(memory.gpu_memory_utilization - _STEP, 2)
        return replace(fewer, gpu_memory_utilization=max(share, _LOWEST))
    if exit_code == _SIGKILL or _KILLED.search(text):
        return replace(fewer, cpu_cache_gib=max(1, memory.cpu_cache_gib // 2))
    return None


def difference(before: MemorySettings, after: MemorySettings) -> str:
    """The settings that differ, as text for a message."""
    old = asdict(before)
    return ", ".join(
        f"{key} {value} (was {old[key] or 'the longest'})"
        for key, value in asdict(after).items()
        if value != old[key]
    )
