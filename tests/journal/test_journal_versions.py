"""Journals of other versions, and the schema for those who read them with something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from solver.config import SolverConfig
from solver.errors import JournalError
from solver.journal.events import (
    SCHEMA_MINOR,
    Ended,
    RunEnded,
    RunResumed,
    RunStarted,
    Scored,
    Solved,
)
from solver.journal.reader import read_journal
from solver.journal.schema import journal_schema, schema_text
from solver.journal.writer import JournalWriter
from solver.types import Degradation, DegradationKind, StopReason
from tests.replay.runs import Judge, full, play
from tests.support.rig import Rig, every, problem, says

ROOT = Path(__file__).parents[2]
START = RunStarted(
    created="2025-01-01T00:00:00+00:00",
    schema_minor=SCHEMA_MINOR,
    config=SolverConfig(),
    problem_ids=["a"],
    problems_sha256="0" * 64,
)
# A line of the first version, as it was written then.
FIRST_VERSION = (
    '{"t":3.7,"type":"run_started","schema_version":1,"created":"2025-01-01T00:00:00+00:00","config":'
    '{"seed":0,"model":{"path":"embedded","threads":1},"prune":{"launch":24,"keep":8,"mark":32,'
    '"scorer":"stop","adapter":null,"reward_model":null},"vote":{"stop":"posterior","confidence":'
    '0.95}},"problem_ids":["a"],"problems_sha256":"00","engine":{},"isolation":""}\n'
)
FIRST_SOLVED = (
    '{"t":4.0,"type":"solved","problem_id":"a","answer":7,"votes":{"7":2},"num_votes":2,"margin":2,'
    '"tied":false,"decided_early":false,"elapsed_s":1.0,"sampled_tokens":9,"reused_tokens":0,'
    '"encoded_tokens":3,"degraded":[]}\n'
)
FUTURE = {"t": 1.0, "type": "dreamt", "problem_id": "a"}


def lines(path: Path, *fields: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in fields))
    return path


def newer(**changes: Any) -> dict[str, Any]:
    return START.model_dump(mode="json") | {"schema_minor": SCHEMA_MINOR + 1} | changes


def test_the_first_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ended = '{"t":4.0,"type":"run_ended","interrupted":false}\n'
    path.write_text(FIRST_VERSION + FIRST_SOLVED + ended)
    [start, solved, end] = read_journal(path).events
    assert isinstance(start, RunStarted) and start.schema_minor == 0
    assert start.config.record == "run" and start.config.prune.scorer == "stop"
    assert start.config.vote.rule == "majority"
    assert isinstance(solved, Solved) and (solved.votes, solved.weights) == ({7: 2}, {})
    assert end == RunEnded(t=4.0)


def test_why_an_answer_was_degraded_is_told_from_the_words_of_older_versions(
    tmp_path: Path,
) -> None:
    said = {
        "outside of what the embedded model knows": "unfamiliar",
        "scorer stop failed, kept at random: ScorerError: late": "scorer_failed",
        "2 trajectories failed, the first with EngineError: gone": "trajectories_failed",
        "time was short: 2 trajectories cut short": "out_of_time",
        "interrupted: not started": "interrupted",
        "failed: ValueError: bad": "failed",
        "tried again": "tried_again",
        "no vote: fallback answer 0": "no_vote",
        "server http://127.0.0.1:1 was lost": "other",
    }
    path = tmp_path / "j"
    old = FIRST_SOLVED.replace('"degraded":[]', f'"degraded":{json.dumps(list(said))}')
    path.write_text(FIRST_VERSION + old)
    solved = read_journal(path).events[1]
    assert isinstance(solved, Solved) and solved.degraded == list(said)
    assert [d.kind for d in solved.degradations] == list(said.values())


def test_a_kind_of_a_newer_version_is_another_one(tmp_path: Path) -> None:
    why = {"degradations": [{"kind": "bored", "detail": "it yawned"}], "degraded": ["it yawned"]}
    line = json.loads(FIRST_SOLVED) | why
    [_, solved] = read_journal(lines(tmp_path / "j", newer(), line)).events
    assert isinstance(solved, Solved)
    assert solved.degradations == [Degradation(DegradationKind.OTHER, "it yawned")]


def test_what_is_written_has_kinds_and_the_sentences_of_before(tmp_path: Path) -> None:
    why = Degradation(DegradationKind.NO_VOTE, "no vote: fallback answer 0")
    (tmp_path / "j").write_text(FIRST_VERSION + FIRST_SOLVED)
    [_, solved] = read_journal(tmp_path / "j").events
    assert isinstance(solved, Solved)
    fields = json.loads(solved.model_copy(update={"degradations": [why]}).model_dump_json())
    assert fields["degradations"] == [{"kind": "no_vote", "detail": why.detail}]
    assert fields["degraded"] == [why.detail]


def test_events_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    ended = Ended(problem_id="a", index=0, stop_reason=StopReason.ANSWERED, num_sampled_tokens=1)
    more = ended.model_dump(mode="json") | {"mood": "good"}
    journal = read_journal(lines(tmp_path / "j", newer(), FUTURE, more, FUTURE))
    assert journal.skipped == 2
    assert journal.events[1:] == (ended,)


def test_settings_of_a_newer_version_are_left_out(tmp_path: Path) -> None:
    config = START.config.model_dump(mode="json") | {"magic": True}
    config["prune"] |= {"launch": 5, "keep": 3, "wand": "elder"}
    [start] = read_journal(lines(tmp_path / "j", newer(config=config))).events
    assert isinstance(start, RunStarted) and start.config.prune.launch == 5


def test_what_cannot_be_read_of_a_newer_version_is_told(tmp_path: Path) -> None:
    strange = {"type": "ended", "problem_id": "a", "index": 0, "stop_reason": "bored"}
    with pytest.raises(JournalError, match=r"line 2 was written by a newer version.*update"):
        read_journal(lines(tmp_path / "j", newer(), strange))
    (tmp_path / "k").write_text(json.dumps(newer()) + '\n{"t":\n')
    with pytest.raises(JournalError, match="line 2 is damaged"):
        read_journal(tmp_path / "k")


def test_an_unknown_event_of_our_own_version_is_damage(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="line 2 is damaged"):
        read_journal(lines(tmp_path / "j", START.model_dump(mode="json"), FUTURE))


def test_a_newer_version_may_have_gone_on_with_it(tmp_path: Path) -> None:
    resumed = RunResumed(created="later", schema_minor=SCHEMA_MINOR + 1).model_dump(mode="json")
    journal = read_journal(lines(tmp_path / "j", START.model_dump(mode="json"), resumed, FUTURE))
    assert journal.skipped == 1


def test_the_schema_file_is_current() -> None:
    written = (ROOT / "docs/journal.schema.json").read_text("utf-8")
    assert written == schema_text(), "run: python -m solver.schema > docs/journal.schema.json"


def test_every_line_of_a_run_obeys_the_schema(tmp_path: Path) -> None:
    tales = every(["```python\nprint(3)\n```\n" + says(3, 30)] * 3 + ["." * 390])
    rig = Rig(says=tales, settings=full())
    play(rig, [problem()], (Judge("stop", {f"p#{i}": 0.5 for i in range(4)}),))
    writer = JournalWriter(tmp_path / "j", lambda message: None)
    for event in (START, *rig.events, RunResumed(created="x"), RunEnded()):
        writer.record(event)
    writer.close()
    assert rig.of(Scored)
    check = jsonschema.Draft202012Validator(journal_schema())
    for line in (tmp_path / "j").read_text().splitlines():
        check.validate(json.loads(line))
    with pytest.raises(jsonschema.ValidationError):
        check.validate(FUTURE)
