"""`record = "full"`: everybody is finished, every learned score is kept, the answer is the policy's."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from solver.config import SolverConfig
from solver.errors import InputError
from solver.journal.events import Checked, Ended, RunEnded, RunResumed, Sampled, Scored
from solver.journal.recorded_run import ProblemReader, load
from solver.types import StopReason
from tests.replay.runs import Judge, full, play, recorded, write
from tests.support.rig import Rig, config, every, problem, says

TALES = every([says(7, 20), says(7, 30), says(1, 40), says(1, 50)])
SURE = {"p#0": -0.1, "p#1": -0.2, "p#2": -0.3, "p#3": -0.4}


def test_nobody_is_dropped_and_the_vote_is_the_policys() -> None:
    ordinary = Rig(says=TALES, logprobs=SURE)
    [real] = play(ordinary, [problem()])
    rig = Rig(says=TALES, logprobs=SURE, settings=full())
    [solved] = play(rig, [problem()])
    [checked] = rig.of(Checked)
    assert isinstance(checked, Checked) and checked.dropped == [2, 3]
    assert (solved.answer, solved.votes) == (real.answer, real.votes) == (7, {7: 2})
    assert not solved.degraded
    last = {e.index: e for e in rig.of(Ended) if isinstance(e, Ended)}
    assert [last[i].stop_reason for i in range(4)] == [StopReason.ANSWERED] * 4
    assert [last[i].answer for i in range(4)] == [7, 7, 1, 1]
    assert rig.engine.open_requests == set()


def test_the_dropped_go_on_when_the_survivors_have_ended() -> None:
    """So that the survivors' times are those of a run."""
    ordinary, rig = Rig(says=TALES, logprobs=SURE), Rig(says=TALES, logprobs=SURE, settings=full())
    play(ordinary, [problem()])
    play(rig, [problem()])

    def ends(rig: Rig, *indices: int) -> list[float]:
        return [
            e.t
            for e in rig.of(Ended)
            if isinstance(e, Ended) and e.index in indices and e.stop_reason is StopReason.ANSWERED
        ]

    assert ends(rig, 0, 1) == ends(ordinary, 0, 1)
    resumed = [e.started for e in rig.of(Sampled) if isinstance(e, Sampled) and e.index in (2, 3)][
        2:
    ]
    assert len(resumed) == 2 and min(resumed) >= max(ends(rig, 0, 1))
    assert rig.pool.prepared == [2, 2] and ordinary.pool.prepared == [2]


def test_no_vote_stops_anybody() -> None:
    tales = every([says(7, 10 + i) for i in range(7)] + [says(1, 200)])
    prune = {"launch": 8, "keep": 8, "mark": 5, "scorer": "none"}
    rig = Rig(says=tales, settings=full(prune=prune))
    [solved] = play(rig, [problem()])
    assert solved.decided_early and solved.votes == {7: 4}  # as the rule would have stopped
    ends = {e.index: e.stop_reason for e in rig.of(Ended) if isinstance(e, Ended)}
    assert set(ends.values()) == {StopReason.ANSWERED}


def test_learned_scores_are_kept_at_every_mark() -> None:
    book = {name: float(place) for place, name in enumerate(SURE)}
    stop, broken = Judge("stop", book), Judge("reward", {})
    settings = SolverConfig.model_validate(full().model_dump() | {"record_marks": (5, 45)})
    rig = Rig(says=TALES, settings=settings)
    [solved] = play(rig, [problem()], (stop, broken))
    assert not solved.degraded  # a judge that fails costs its own scores
    scored = {(e.scorer, e.mark): e for e in rig.of(Scored) if isinstance(e, Scored)}
    assert list(scored) == [(s, m) for m in (10, 5, 45) for s in ("stop", "reward")]
    assert scored["stop", 10].scores == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    assert sorted(scored["stop", 45].scores) == [2, 3]  # the others had ended
    assert stop.asked == [10, 5, 45]
    assert "KeyError" in str(scored["reward", 10].error) and not scored["reward", 10].scores


def test_an_ordinary_run_asks_nobody() -> None:
    judge = Judge("stop", {})
    rig = Rig(says=TALES)
    play(rig, [problem()], (judge,))
    assert not judge.asked and not rig.of(Scored)


def test_marks_need_a_full_recording() -> None:
    with pytest.raises(ValidationError, match="record=full"):
        SolverConfig.model_validate({"record_marks": [16]})
    with pytest.raises(ValidationError):
        SolverConfig.model_validate({"record": "full", "record_marks": [0]})


def test_records_are_what_the_run_held(tmp_path: Path) -> None:
    """Turns, calls, answers and times come back from the journal as they were."""
    tales = every(["```python\nprint(3)\n```\nso " + says(3, 9)] * 2 + [says(4, 30)] * 2)
    recording = recorded(tmp_path / "run", Rig(says=tales, settings=full()), [problem(answer=3)])
    [record] = recording.problems
    first = record.trajectories[0]
    assert list(record.trajectories) == [0, 1, 2, 3]
    assert [len(r.trajectory.turns) for r in record.trajectories.values()] == [2, 2, 1, 1]
    assert first.trajectory.turns[0].tool_call == "print(3)"
    assert first.trajectory.turns[0].execution is not None
    assert first.trajectory.answer == 3
    tokens = [request.num_tokens for request in first.requests]
    assert sum(tokens) == first.trajectory.num_sampled_tokens
    assert tokens[0] == 10  # to the mark
    assert [call.num_tokens for call in first.calls] == [len(first.trajectory.turns[0].token_ids)]
    assert all(span.started <= span.ended for span in (*first.requests, *first.calls))
    assert record.problem.answer == 3 and recording.end == RunEnded(t=record.solved.t)


def test_a_resumed_run_is_one_run(tmp_path: Path) -> None:
    """The problem that was under way counts as it went the second time; the clock goes on."""
    rig = Rig(says=TALES, settings=full())
    play(rig, [problem()])
    half = [event for event in rig.events if event.t < 0.2]
    events = [*half, RunResumed(created="later"), *rig.events]
    folder = write(tmp_path / "run", rig.settings, [problem()], events)
    [record] = load(folder).problems
    [whole] = load(write(tmp_path / "whole", rig.settings, [problem()], rig.events)).problems
    assert record.started == pytest.approx(half[-1].t)
    for index, trajectory in record.trajectories.items():
        expected = whole.trajectories[index]
        assert trajectory.trajectory == expected.trajectory
        for span, other in zip(trajectory.requests, expected.requests, strict=True):
            assert span.started == pytest.approx(other.started + half[-1].t)


def test_what_had_ended_before_a_crash_may_keep_its_vote(tmp_path: Path) -> None:
    """A later process that goes on with a problem does not sample again what had ended."""
    rig = Rig(says=TALES, settings=full())
    play(rig, [problem()])
    last = max(e.t for e in rig.events if isinstance(e, Ended) and e.index == 0)
    half = [event for event in rig.events if event.t <= last]
    rest = [event for event in rig.events if getattr(event, "index", None) != 0]
    events = [*half, RunResumed(created="later"), *rest]
    [record] = load(write(tmp_path / "run", rig.settings, [problem()], events)).problems
    [whole] = load(write(tmp_path / "whole", rig.settings, [problem()], rig.events)).problems
    assert {i: t.trajectory for i, t in record.trajectories.items()} == {
        i: t.trajectory for i, t in whole.trajectories.items()
    }


def test_a_problem_without_its_end_is_there(tmp_path: Path) -> None:
    rig = Rig(says=TALES, settings=full())
    play(rig, [problem()])
    unfinished = [event for event in rig.events if event.t < 0.2]
    reader = ProblemReader(write(tmp_path / "run", rig.settings, [problem()], unfinished))
    [record] = list(reader)
    assert record.solved is None and len(record.trajectories) == 4


def test_folders_that_hold_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        load(tmp_path)
    (tmp_path / "journal.jsonl").touch()
    with pytest.raises(InputError, match="nothing is recorded"):
        load(tmp_path)
    folder = write(tmp_path / "run", config(), [problem()], [])
    (folder / "problems.csv").unlink()
    with pytest.raises(InputError, match="copy of the problems"):
        load(folder)
