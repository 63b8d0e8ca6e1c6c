"""The words a model is told, and how output is cut."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.limits import Limits
from sandbox.output import ERROR_BYTES, Output
from sandbox.result import (
    ExecutionResult,
    ExecutionStatus,
    for_model,
    head_and_tail,
    refusal,
    shares,
)

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=2000)
NOTICE_BYTES = 50


def result(status: str, **facts: object) -> ExecutionResult:
    return ExecutionResult.model_validate({"status": status, **facts})


@given(text=ANY_TEXT, limit=st.integers(0, 3000))
def test_a_cut_text_is_short_valid_and_keeps_both_ends(text: str, limit: int) -> None:
    cut = head_and_tail(text, limit)
    whole = text.encode("utf-8", "backslashreplace").decode()
    assert len(cut.encode()) <= max(limit, NOTICE_BYTES)
    if len(whole.encode()) <= limit:
        assert cut == whole
        return
    head, notice, tail = cut.partition("\n[... ")
    assert notice
    tail = tail.partition(" not shown ...]\n")[2]
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert abs(len(head.encode()) - len(tail.encode())) <= 6


@given(text=ANY_TEXT, limit=st.integers(NOTICE_BYTES, 3000))
def test_cutting_twice_changes_nothing(text: str, limit: int) -> None:
    once = head_and_tail(text, limit)
    assert head_and_tail(once, limit) == once


@given(stdout=ANY_TEXT, stderr=ANY_TEXT, limit=st.integers(400, 3000))
def test_both_texts_share_one_bound(stdout: str, stderr: str, limit: int) -> None:
    both = shares(stdout, stderr, limit)
    assert sum(len(text.encode()) for text in both) <= limit
    assert shares(*both, limit) == both


def test_a_cut_names_its_size() -> None:
    assert "[... 30 kB not shown ...]" in head_and_tail("x" * 50_000, 20_000)
    assert "[... 2 MB not shown ...]" in head_and_tail("x" * 2_020_000, 20_000)


LOST = "and was restarted; all variables lost. Re-run imports and definitions.]"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (result("ok", stdout="2\n"), "2"),
        (result("ok"), "[no output]"),
        (result("ok", stdout="\n\n"), "[no output]"),
        (result("ok", stdout="a\n", stderr="w\n"), "a\nw"),
        (result("error", stdout="a", stderr="ValueError: b"), "a\nValueError: b"),
        (
            result("timeout", stdout="a\n", timeout_s=30.0, duration_s=30.2),
            "a\n[timeout after 30 s; interrupted; variables kept."
            " Use a faster method or a smaller bound.]",
        ),
        (result("killed", timeout_s=30.0, state_lost=True), f"[kernel stopped after 30 s {LOST}"),
        (result("killed", duration_s=2.04, state_lost=True), f"[kernel stopped after 2 s {LOST}"),
        (result("died", state_lost=True), f"[kernel died {LOST}"),
        (
            result("killed", stopped="more than 6 GiB of memory", timeout_s=30.0, duration_s=3.04),
            f"[kernel stopped after 3 s (more than 6 GiB of memory) {LOST}",
        ),
        (
            result("error", stderr="OSError: [Errno 97] Address family not supported by protocol"),
            "OSError: [Errno 97] Address family not supported by protocol\n"
            "[no network in this sandbox]",
        ),
        (
            result("ok", stdout="2", replayed=True),
            "2\n[the kernel was restarted before this cell; earlier cells were run again.]",
        ),
        (
            result("error", stderr="MemoryError\n", error="MemoryError"),
            "MemoryError\n[MemoryError: 4 GiB limit; variables kept.]",
        ),
        (
            result("error", stderr="E", error="_ArrayMemoryError"),
            "E\n[MemoryError: 4 GiB limit; variables kept.]",
        ),
        (
            result("error", stderr="E", error="StdinNotImplementedError"),
            "E\n[input() is unavailable; assign the value.]",
        ),
        (
            result("error", stdout="x", output_bytes=1_000_000, truncated=True),
            "x\n[output cut at 1 MB; first and last 10 kB shown.]",
        ),
        (
            result("unavailable", stderr="our secrets"),
            "[tool temporarily unavailable; continue by reasoning.]",
        ),
        (result("refused", stderr="no time left"), "[not run: no time left]"),
        (
            result("ok", stdout="2\n", state_lost=True),
            "2\n[the kernel was restarted before this cell; earlier variables were lost.]",
        ),
    ],
)
def test_what_a_model_is_told(outcome: ExecutionResult, told: str) -> None:
    assert for_model(outcome, Limits()) == told


def test_the_limits_named_are_those_in_force() -> None:
    limits = Limits(memory_bytes=1 << 29, accepted_bytes=200_000, output_bytes=5_000)
    memory = result("error", stderr="E", error="MemoryError", output_bytes=200_000)
    assert for_model(memory, limits).splitlines()[1:] == [
        "[output cut at 200 kB; first and last 2.5 kB shown.]",
        "[MemoryError: 0.5 GiB limit; variables kept.]",
    ]


@given(stdout=ANY_TEXT, stderr=ANY_TEXT, status=st.sampled_from(ExecutionStatus))
def test_a_model_is_never_told_much(stdout: str, stderr: str, status: ExecutionStatus) -> None:
    outcome = ExecutionResult(status=status, stdout=stdout * 20, stderr=stderr * 20)
    told = for_model(outcome, Limits(output_bytes=1000))
    assert told
    assert len(told.encode()) <= 1000 + 300


def test_refusals_name_the_reason() -> None:
    limits = Limits()
    assert refusal("1", 1.0, limits) is None
    for code, timeout_s, words in (
        ("1", 0.0, "no time"),
        ("é" * 100_001, 1.0, "200 kB of code"),
        ("'\udfff'", 1.0, "UTF-8"),
    ):
        refused = refusal(code, timeout_s, limits)
        assert refused is not None
        assert words in refused.stderr


class TestOutput:
    def test_keeps_the_order_of_prints_and_displays(self) -> None:
        output = Output(1000)
        output.add("stream", {"name": "stdout", "text": "a"})
        output.add("execute_result", {"data": {"text/plain": "b", "text/html": "<b>"}})
        output.add("stream", {"name": "stderr", "text": "c"})
        output.add("error", {"ename": "E", "traceback": ["line 1", "E: d"]})
        assert output.text("stdout") == "a\nb\n"
        assert output.text("stderr") == "c\nline 1\nE: d\n"
        assert (output.error, output.full) == ("E", False)

    @pytest.mark.parametrize(
        ("written", "seen"),
        [
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b\x1b[m[31m", "[31m"),
            ("a\r\nb\r\n", "a\nb\n"),
            ("10%\r50%\r100%\ndone\r", "100%\ndone"),
        ],
    )
    def test_leaves_plain_text(self, written: str, seen: str) -> None:
        output = Output(1000)
        output.add("stream", {"text": written})
        assert output.text("stdout") == seen

    @pytest.mark.parametrize("worst", ["\x1b[" + "0" * 10**6, "\x1b]" * 10**6, "\r" * 10**6])
    def test_cleaning_takes_linear_time(self, worst: str) -> None:
        output = Output(10**6)
        output.add("stream", {"text": worst})
        before = time.process_time()
        output.text("stdout")
        assert time.process_time() - before < 2

    def test_is_bounded_but_keeps_the_error(self) -> None:
        output = Output(1000)
        for _ in range(100):
            output.add("stream", {"text": "é" * 99})
        output.add("error", {"ename": "E", "traceback": ["x" * 10_000]})
        assert output.full
        assert len(output.text("stdout").encode()) <= 1000
        assert 0 < len(output.text("stderr").encode()) <= ERROR_BYTES + 1

    def test_what_cannot_be_stored_is_spelled_out(self) -> None:
        output = Output(1000)
        output.add("error", {"ename": "\ud800E", "traceback": ["\ud800 tb", [["nested"]], None]})
        assert (output.error, output.text("stderr")) == ("\\ud800E", "\\ud800 tb\n")

    def test_an_error_is_told_once(self) -> None:
        output = Output(1000)
        output.add("stream", {"name": "stderr", "text": "UsageError: no\n"})
        output.add_error("UsageError", "UsageError: no")
        output.add_error("Other", "again")
        assert (output.error, output.text("stderr")) == ("UsageError", "UsageError: no\n")

    @given(
        kind=st.sampled_from(["stream", "execute_result", "display_data", "error", "status"]),
        content=st.dictionaries(
            st.sampled_from(["name", "text", "data", "ename", "traceback"]),
            st.one_of(st.none(), st.integers(), ANY_TEXT, st.lists(ANY_TEXT), st.just({"x": 1})),
        ),
    )
    def test_takes_anything(self, kind: str, content: dict[str, object]) -> None:
        output = Output(1000)
        output.add(kind, content)
        output.text("stdout").encode()
        output.text("stderr").encode()
