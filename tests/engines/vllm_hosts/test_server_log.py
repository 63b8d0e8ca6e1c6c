"""Reading a server's log: lines as vLLM 0.32 writes them."""

from __future__ import annotations

import pytest

from solver.engines.vllm.command import MemorySettings
from solver.engines.vllm.server_log import (
    cause,
    difference,
    message,
    port_was_taken,
    progress,
    reduced_memory,
)
from tests.engines.vllm_hosts.fake_process import DEVICE_FULL, DEVICE_TAKEN, NO_CACHE, SUMMED_UP

MEMORY = MemorySettings(0.9, 64, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "(EngineCore pid=7) INFO 11-22 02:41:10 [gpu_model_runner.py:5] Loading model",
            "Loading model",
        ),
        (
            "(APIServer pid=7) INFO:     Started server process [26424]",
            "Started server process [26424]",
        ),
        ("WARNING 11-22 02:41:10 [a.py:1] (x) y", "(x) y"),
        ("ValueError: no", "ValueError: no"),
    ],
)
def test_a_line_without_its_trimmings(line: str, words: str) -> None:
    assert message(line) == words


def test_progress_is_the_last_line_with_words() -> None:
    assert (
        progress(
            [
                "INFO 11-22 02:41:10 [a.py:1] Loading weights",
                "   ",
                "█ ▄█",
                "cpus=[1]",
                "a.py:1: FutureWarning: not that",
            ]
        )
        == "Loading weights"
    )
    assert progress([]) == "no message yet"


def test_the_cause_is_the_last_error_before_the_summary() -> None:
    lines = ["KeyError: early", NO_CACHE, "Traceback (most recent call last):", SUMMED_UP]
    assert cause(lines).startswith("ValueError: To serve at least one request")
    refused = [
        "pydantic_core.ValidationError: 1 validation error",
        "  Value error, too long [type=x]",
    ]
    assert cause(refused) == "Value error, too long [type=x]"
    assert cause([SUMMED_UP]) == SUMMED_UP
    assert cause(["INFO 11-22 02:41:10 [a.py:1] Loading weights"]) == ""


def test_a_taken_port_is_told_from_the_rest() -> None:
    assert port_was_taken(["OSError: [Errno 98] Address already in use"])
    assert not port_was_taken([NO_CACHE])


def less(
    line: str, exit_code: int = 1, *, memory: MemorySettings = MEMORY, free: bool = True
) -> MemorySettings | None:
    return reduced_memory(memory, [line], exit_code, length_is_free=free)


def test_what_others_hold_of_the_gpu_is_left_to_them() -> None:
    assert less(DEVICE_TAKEN) == MemorySettings(0.74, 64, None)  # 60 of 80 GiB, and 1% spare
    assert less(DEVICE_TAKEN.replace("60.0", "1.0")) is None


def test_a_gpu_that_ran_full_is_filled_less() -> None:
    assert less(DEVICE_FULL) == MemorySettings(0.8, 32, None)
    assert less(
        "RuntimeError: CUDA out of memory occurred when warming up sampler"
    ) == MemorySettings(0.8, 32, None)


def test_a_cache_without_room_gets_more_of_the_gpu_and_a_free_length_shrinks() -> None:
    assert less(NO_CACHE) == MemorySettings(0.95, 32, 256)
    assert less(NO_CACHE, memory=MemorySettings(0.97, 64, 512), free=False) == MemorySettings(
        0.97, 32, 512
    )
    assert less("ValueError: No available memory for the cache blocks.") == MemorySettings(
        0.95, 32, None
    )


def test_who_was_killed_by_the_system_takes_less_of_its_memory() -> None:
    assert less("", 137) == MemorySettings(0.9, 32, None, 1)
    assert less("Failed core proc(s): {'EngineCore_0': -9}") == MemorySettings(0.9, 32, None, 1)


def test_other_failures_are_not_about_memory() -> None:
    assert less(SUMMED_UP) is None
    assert less("ValueError: no such architecture") is None
    assert less("", 139) is None


def test_a_change_is_said_in_words() -> None:
    assert difference(MEMORY, MemorySettings(0.8, 32, 256)) == (
        "gpu_memory_utilization 0.8 (was 0.9), max_num_seqs 32 (was 64), "
        "max_model_len 256 (was the longest)"
    )
