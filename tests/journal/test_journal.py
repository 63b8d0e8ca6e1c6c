"""Every event survives the journal; a crash costs at most the line it tore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.result import ExecutionResult, ExecutionStatus
from solver.config import SolverConfig
from solver.errors import InputError, JournalError
from solver.files.jsonl import repair
from solver.journal.events import (
    SCHEMA_VERSION,
    Checked,
    Ended,
    Event,
    Executed,
    Forced,
    ProblemStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    Sampled,
    Solved,
)
from solver.journal.reader import read_journal
from solver.journal.writer import JournalWriter
from solver.types import PruneReason, StopReason

START = RunStarted(
    created="2025-01-01T00:00:00+00:00",
    config=SolverConfig.model_validate({}),
    problem_ids=["a"],
    problems_sha256="0" * 64,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SECONDS = st.floats(0, 1e6, allow_nan=False)
COUNT = st.integers(0, 10**6)
IDS = st.lists(COUNT, max_size=5)
LOGPROBS = st.lists(st.floats(-50, 0).map(lambda x: round(x, 6)), max_size=5)
ERROR = st.none() | TEXT
BASE: dict[str, st.SearchStrategy[Any]] = {"t": SECONDS, "problem_id": TEXT}
ONE = BASE | {"index": COUNT}
EVENTS = st.one_of(
    st.builds(RunResumed, t=SECONDS, created=TEXT),
    st.builds(ProblemStarted, **BASE, prompt_token_ids=IDS, allotted_s=st.none() | SECONDS),
    st.builds(
        Sampled,
        **ONE,
        token_ids=IDS,
        logprobs=LOGPROBS,
        reused_tokens=COUNT,
        encoded_tokens=COUNT,
        started=SECONDS,
    ),
    st.builds(
        Executed,
        **ONE,
        code=TEXT,
        result=st.builds(
            ExecutionResult,
            status=st.sampled_from(ExecutionStatus),
            stdout=TEXT,
            stderr=TEXT,
            duration_s=SECONDS,
            truncated=st.booleans(),
            state_lost=st.booleans(),
        ),
        appended_token_ids=IDS,
        started=SECONDS,
    ),
    st.builds(Forced, **ONE, appended_token_ids=IDS),
    st.builds(
        Ended,
        **ONE,
        stop_reason=st.sampled_from(StopReason),
        num_sampled_tokens=COUNT,
        answer=st.none() | st.integers(),
        error=ERROR,
    ),
    st.builds(
        Checked,
        **BASE,
        kept=IDS,
        dropped=IDS,
        scores=st.dictionaries(COUNT, st.floats(-9, 9), max_size=3),
        method=TEXT,
        reason=st.sampled_from(PruneReason),
        error=ERROR,
        started=SECONDS,
    ),
    st.builds(
        Solved,
        **BASE,
        answer=st.integers(),
        votes=st.dictionaries(st.integers(), COUNT, max_size=3),
        num_votes=COUNT,
        margin=COUNT,
        tied=st.booleans(),
        decided_early=st.booleans(),
        elapsed_s=SECONDS,
        sampled_tokens=COUNT,
        reused_tokens=COUNT,
        encoded_tokens=COUNT,
        degraded=st.lists(TEXT, max_size=2),
    ),
    st.builds(RunEnded, t=SECONDS, interrupted=st.booleans()),
)
SAMPLED = Sampled(
    problem_id="a",
    index=0,
    token_ids=[1, 2],
    logprobs=[-0.123456789, -1e-9],
    reused_tokens=0,
    encoded_tokens=1,
    started=0.0,
)


def never(message: str) -> None:
    raise AssertionError(message)


def write(path: Path, *events: Event) -> None:
    writer = JournalWriter(path, never)
    for event in events:
        writer.record(event)
    writer.close()


@settings(deadline=None)
@given(events=st.lists(EVENTS, max_size=8))
def test_round_trip(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    write(path, START, *events)
    assert read_journal(path).events == (START, *events)
    assert len(path.read_bytes().split(b"\n")) == len(events) + 2


def test_log_probabilities_are_rounded(tmp_path: Path) -> None:
    write(tmp_path / "j", START, SAMPLED)
    _, event = read_journal(tmp_path / "j").events
    assert isinstance(event, Sampled)
    assert event.logprobs == [-0.123457, 0.0]


def test_what_json_has_no_room_for(tmp_path: Path) -> None:
    odd = SAMPLED.model_copy(update={"logprobs": [float("-inf"), 0.0]})
    half = Executed(
        problem_id="a",
        index=0,
        code="'\ud800'",
        result=ExecutionResult(status=ExecutionStatus.OK),
        appended_token_ids=[],
        started=0.0,
    )
    write(tmp_path / "j", START, odd, half)
    _, first, second = read_journal(tmp_path / "j").events
    assert first == odd
    assert isinstance(second, Executed) and second.code == "'?'"


def test_torn_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, START, SAMPLED)
    whole = path.stat().st_size
    write(path, RunResumed(created="später"))
    data = path.read_bytes()
    for end in range(whole, len(data)):
        path.write_bytes(data[:end])
        before = read_journal(path)
        assert before.events[1:] == (read_journal(path).events[1],)
        assert (len(before.events), before.torn_bytes) == (2, end - whole)
        repair(path)
        assert path.read_bytes() == data[:whole]
        write(path, RunEnded())
        assert read_journal(path).events[2:] == (RunEnded(),)


def test_nothing_but_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b'{"t":0.0,"type":"run_st')
    assert read_journal(path).events == ()
    repair(path)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"type":"sampled"', b"[" * 100_000])
def test_a_damaged_line_is_named(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, START, SAMPLED, RunEnded())
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(JournalError, match="line 2 is damaged"):
        read_journal(path)


def test_another_schema(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, START)
    fields = json.loads(path.read_bytes())
    fields |= {"schema_version": SCHEMA_VERSION + 1, "config": "of the future"}
    path.write_text(json.dumps(fields) + "\n")
    with pytest.raises(JournalError, match=f"schema {SCHEMA_VERSION + 1}"):
        read_journal(path)


def test_another_beginning(tmp_path: Path) -> None:
    write(tmp_path / "j", RunEnded())
    with pytest.raises(JournalError, match="not the start of a run"):
        read_journal(tmp_path / "j")
    with pytest.raises(JournalError, match="No such file"):
        read_journal(tmp_path / "missing")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j", never)
    with pytest.raises(InputError, match="in use"):
        JournalWriter(tmp_path / "j", never)
    writer.close()
    JournalWriter(tmp_path / "j", never).close()


def test_a_full_disk_is_announced_once() -> None:
    said: list[str] = []
    writer = JournalWriter(Path("/dev/full"), said.append)
    writer.record(START)
    writer.record(SAMPLED)
    writer.close()
    assert len(said) == 1 and "No space left" in said[0]
