"""A journal, read into what the lanes need: whole, growing, resumed, damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from solver.errors import InputError
from solver.journal.events import EngineIncident, RunEnded, RunResumed
from solver.report.read import JournalReader, lines_of
from solver.types import StopReason
from tests.report.builders import MARK, RunBuilder, three_problems


def read(folder: Path) -> JournalReader:
    reader = JournalReader(folder / "journal.jsonl")
    reader.update()
    return reader


def test_lanes_of_a_finished_problem(finished: Path) -> None:
    record = read(finished).record
    assert list(record.problems) == ["sum", "product", "square"]
    assert record.ended and not record.interrupted and not record.unreadable
    problem = record.problems["sum"]
    first, second, third = (problem.lanes[index] for index in range(3))
    assert (first.stop_reason, first.answer, second.answer) == (StopReason.ANSWERED, 4, 5)
    assert third.stop_reason is StopReason.PRUNED and third.tokens == MARK
    assert problem.dropped == {2}
    assert [(call.status, call.tokens < first.tokens) for call in first.calls] == [("ok", True)]
    assert first.marked is not None and first.resumed is not None
    assert first.began < first.marked < first.resumed < first.ended
    assert [ballot.answer for ballot in problem.ballots] == [4, 5]
    assert problem.solved is not None and problem.solved.answer == 4
    assert problem.allotted_s == 30.0


def test_lines_lead_back_to_the_events(finished: Path) -> None:
    lines = (finished / "journal.jsonl").read_bytes().splitlines()
    for problem in read(finished).record.problems.values():
        found = list(lines_of(finished / "journal.jsonl", problem))
        assert len(found) > 10
        for number, event in found:
            assert f'"type":"{event.type}"'.encode() in lines[number - 1]
        for lane in problem.lanes.values():
            assert b'"type":"sampled"' in lines[lane.line - 1]


def test_what_others_said_at_the_mark_is_kept(tmp_path: Path) -> None:
    """At other marks they said it of other prefixes, and a problem begun anew is asked anew."""
    run = RunBuilder(tmp_path / "run", [("sum", "1 + 1", 2)])
    run.start("sum")
    run.also_scored("sum", "confidence", MARK, {0: 1.0})
    run.start("sum")
    run.also_scored("sum", "reward", MARK, {0: 0.5, 1: -0.5})
    run.also_scored("sum", "reward", MARK + 1, {0: 7.0})
    run.checks("sum", {0: 2.0, 1: 3.0}, kept=[1])
    run.write()
    problem = read(tmp_path / "run").record.problems["sum"]
    assert problem.scored == {"reward": {0: 0.5, 1: -0.5}}
    assert problem.scores("reward") == {0: 0.5, 1: -0.5}
    assert problem.scores("stop") == {0: 2.0, 1: 3.0} and problem.scores("confidence") == {}


def test_settings_that_only_a_newer_version_knows_are_left_out(finished: Path) -> None:
    journal = finished / "journal.jsonl"
    first, rest = journal.read_text().split("\n", 1)
    start = json.loads(first)
    start["schema_minor"] += 1
    start["config"] |= {"magic": True}
    start["config"]["prune"] |= {"wand": "elder"}
    journal.write_text(f"{json.dumps(start)}\n{rest}")
    record = read(finished).record
    assert record.start is not None and record.start.config.prune.mark == MARK
    assert not record.unreadable


def test_a_growing_journal_is_read_on(tmp_path: Path) -> None:
    run = three_problems(tmp_path / "run")
    whole = run.events
    run.events = whole[:9]
    run.write(ended=False)
    journal = tmp_path / "run" / "journal.jsonl"
    data = journal.read_bytes()
    journal.write_bytes(data + b'{"t":9.0,"type":"solved","prob')  # a line that is being written
    reader = read(tmp_path / "run")
    assert reader.record.problems["sum"].solved is None
    assert not reader.record.unreadable and not reader.update()
    run.events = [*whole, RunEnded(t=99.0)]
    run.flush()
    assert reader.update() and not reader.update()
    again = read(tmp_path / "run")
    assert reader.record == again.record
    assert reader.record.elapsed == 99.0


def test_a_resumed_run_goes_on_in_time_and_begins_lanes_again(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [("a", "?", 4)])
    run.start("a")
    run.says("a", 0, "lost")
    run.says("a", 1, "kept")
    run.ends("a", 1, StopReason.ANSWERED, 4, 4)
    killed_at = run.now
    run.now = 0.0
    run.add(RunResumed(created="2025-01-02T03:04:05+00:00"))
    run.start("a")
    run.says("a", 0, "again and on")
    run.ends("a", 0, StopReason.ANSWERED, 12, 4)
    run.write()
    record = read(tmp_path / "run").record
    lanes = record.problems["a"].lanes
    assert record.resumed == 1
    assert record.elapsed == killed_at + 5.0
    assert (lanes[0].tokens, lanes[1].tokens) == (12, 4)
    assert lanes[0].began > killed_at > lanes[1].ended - 0.5


def test_what_cannot_be_read_is_counted(finished: Path) -> None:
    journal = finished / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    odd = [b"\xff\xfe\n", b"[" * 5000 + b"\n", b'{"type":"of the future","t":1}\n', b"\n"]
    journal.write_bytes(b"".join([*lines[:4], *odd, *lines[4:]]))
    record = read(finished).record
    assert (record.unreadable, record.first_unreadable) == (4, 5)
    assert record.problems["square"].solved is not None


def test_incidents_and_their_lines(tmp_path: Path) -> None:
    run = three_problems(tmp_path / "run")
    run.add(EngineIncident(what="the server came back"))
    run.write()
    (incident,) = read(tmp_path / "run").record.incidents
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    assert incident.what in lines[incident.line - 1]


def test_another_schema_is_refused(finished: Path) -> None:
    journal = finished / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"schema_version":1', '"schema_version":9'))
    with pytest.raises(InputError, match="schema 9"):
        read(finished)
