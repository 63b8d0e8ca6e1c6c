"""A journal, read into what the lanes need: whole, growing, resumed, damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from solver.errors import JournalError
from solver.journal.events import SCHEMA_MINOR, EngineIncident, RunEnded, RunResumed
from solver.journal.reader import JournalReader, Line
from solver.report.overview import overview
from solver.report.source import RunSource
from solver.types import StopReason
from tests.report.builders import MARK, RunBuilder, three_problems


def read(folder: Path) -> RunSource:
    return RunSource(folder)


def test_lanes_of_a_finished_problem(finished: Path) -> None:
    source = read(finished)
    record = source.history
    assert list(record.problems) == ["sum", "product", "square"]
    assert record.end is not None and not record.end.interrupted and not source.reader.damaged
    problem = record.problems["sum"]
    first, second, third = (problem.trajectories[index] for index in range(3))
    assert (first.stop_reason, first.answer, second.answer) == (StopReason.ANSWERED, 4, 5)
    assert third.stop_reason is StopReason.PRUNED and third.num_tokens == MARK
    assert problem.dropped == {2}
    assert [(call.status, call.num_tokens < first.num_tokens) for call in first.calls] == [
        ("ok", True)
    ]
    [pause] = first.pauses
    assert pause.ended is not None
    assert first.began < pause.began < pause.ended < first.last == first.ended
    assert [ballot.answer for ballot in problem.ballots] == [4, 5]
    assert problem.solved is not None and problem.solved.answer == 4
    assert problem.allotted_s == 30.0


def test_lines_lead_back_to_the_events(finished: Path) -> None:
    lines = (finished / "journal.jsonl").read_bytes().splitlines()
    for problem in read(finished).history.problems.values():
        before = Line(problem.line - 1, 0, problem.begin)
        reader = JournalReader(finished / "journal.jsonl", after=before)
        found = list(reader.events(end=problem.end))
        assert len(found) > 10
        for event, line in found:
            assert f'"type":"{event.type}"'.encode() in lines[line.number - 1]
        for lane in problem.trajectories.values():
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
    problem = read(tmp_path / "run").history.problems["sum"]
    assert {one.scorer for one in problem.scored} == {"reward"}
    assert problem.scores("reward", MARK) == {0: 0.5, 1: -0.5}
    assert problem.scores("reward", MARK + 1) == {0: 7.0}
    assert problem.scores("stop", MARK) == {0: 2.0, 1: 3.0}
    assert problem.scores("confidence", MARK) == {}


def test_settings_that_only_a_newer_version_knows_are_left_out(finished: Path) -> None:
    journal = finished / "journal.jsonl"
    first, rest = journal.read_text().split("\n", 1)
    start = json.loads(first)
    start["schema_minor"] = SCHEMA_MINOR + 1
    start["config"] |= {"magic": True}
    start["config"]["prune"] |= {"wand": "elder"}
    journal.write_text(f"{json.dumps(start)}\n{rest}")
    source = read(finished)
    assert source.history.start is not None and source.config.prune.mark == MARK
    assert not source.reader.damaged


def test_events_of_a_newer_version_are_counted_and_are_no_damage(finished: Path) -> None:
    journal = finished / "journal.jsonl"
    first, rest = journal.read_text().split("\n", 1)
    start = json.loads(first) | {"schema_minor": SCHEMA_MINOR + 1}
    future = '{"type":"of the future","t":1}\n{"type":"forced","t":1,"how":"otherwise"}\n'
    journal.write_text(f"{json.dumps(start)}\n{future}{{nonsense\n{rest}")
    source = read(finished)
    assert (source.reader.skipped, source.reader.damaged, source.reader.first_damaged) == (2, 1, 4)
    told = [notice["text"] for notice in overview(source, live=False)["notices"]]
    assert any("2 events are of a newer version" in text for text in told)


def test_a_growing_journal_is_read_on(tmp_path: Path) -> None:
    run = three_problems(tmp_path / "run")
    whole = run.events
    run.events = whole[:9]
    run.write(ended=False)
    journal = tmp_path / "run" / "journal.jsonl"
    data = journal.read_bytes()
    journal.write_bytes(data + b'{"t":9.0,"type":"solved","prob')  # a line that is being written
    reader = read(tmp_path / "run")
    assert reader.history.problems["sum"].solved is None
    assert not reader.reader.damaged and not reader.update()
    run.events = [*whole, RunEnded(t=99.0)]
    run.flush()
    assert reader.update() and not reader.update()
    again = read(tmp_path / "run")
    assert reader.history.problems == again.history.problems
    assert reader.history.elapsed == 99.0 and reader.history.end is not None


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
    record = read(tmp_path / "run").history
    lanes = record.problems["a"].trajectories
    assert record.num_resumed == 1
    assert record.elapsed == killed_at + 5.0
    assert (lanes[0].num_tokens, lanes[1].num_tokens) == (12, 4)
    assert lanes[0].began > killed_at > lanes[1].last - 0.5


def test_what_cannot_be_read_is_counted(finished: Path) -> None:
    journal = finished / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    odd = [b"\xff\xfe\n", b"[" * 5000 + b"\n", b'{"type":"of the future","t":1}\n', b"\n"]
    journal.write_bytes(b"".join([*lines[:4], *odd, *lines[4:]]))
    source = read(finished)
    assert (source.reader.damaged, source.reader.first_damaged) == (4, 5)
    assert source.history.problems["square"].solved is not None


def test_incidents_and_their_lines(tmp_path: Path) -> None:
    run = three_problems(tmp_path / "run")
    run.add(EngineIncident(what="the server came back"))
    run.write()
    (incident,) = read(tmp_path / "run").history.incidents
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    assert incident.what in lines[incident.line - 1]


def test_another_schema_is_refused(finished: Path) -> None:
    journal = finished / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"schema_version":1', '"schema_version":9'))
    with pytest.raises(JournalError, match="schema 9"):
        read(finished)
