"""The last check in a run: who is asked and when, what the vote makes of it, and what happens if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from solver.journal.events import Ended, Solved
from solver.journal.history import history_of
from solver.solving.session import run_session
from solver.types import DegradationKind, StopReason, Trajectory
from tests.faults.test_time import endless
from tests.support import run_virtual
from tests.support.rig import END, Rig, config, every, problem, says

NONE = {"launch": 4, "keep": 4, "scorer": "none"}
TALES = every([says(1, 20), says(1, 25), says(7, 30), "no box" + END])
LOGITS = {"p#0": -2.0, "p#1": -2.0, "p#2": 3.0}


class LastCheck:
    """Says what is written here, after `delay_s`; remembers whom it was asked about and what was released."""

    name = "stop"

    def __init__(self, logits: dict[str, float], delay_s: float = 0.0) -> None:
        self.asked: list[tuple[str, StopReason | None, int]] = []
        self.rig: Rig | None = None
        self._logits, self._delay_s = logits, delay_s

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        [one] = trajectories
        assert self.rig is not None
        assert one.id not in self.rig.engine.released, "its cache is there"
        self.asked.append((one.id, one.stop_reason, one.num_sampled_tokens))
        await asyncio.sleep(self._delay_s)
        return [self._logits[one.id]]


def rigged(check: LastCheck, **sections: Mapping[str, object]) -> Rig:
    usual = {"prune": NONE, "answer": {"ask": False}, "vote": {"rule": "verified", "stop": "off"}}
    settings = config(**{**usual, **sections})
    rig = check.rig = Rig(says=TALES, settings=settings, last_check=check)
    return rig


def solved(rig: Rig) -> Solved:
    async def main() -> Solved:
        return (await run_session([problem()], rig.services(), solved={}))[0]

    return run_virtual(main())


def test_ballots_weigh_what_it_says_of_each_answer() -> None:
    check = LastCheck(LOGITS)
    rig = rigged(check)
    result = solved(rig)
    assert (result.answer, result.votes, result.margin) == (7, {7: 1, 1: 2}, -1)
    assert result.weights == pytest.approx({7: 0.9526, 1: 0.2384}, abs=1e-4)
    assert sorted(name for name, _, _ in check.asked) == ["p#0", "p#1", "p#2"], (
        "the silent one has no vote"
    )
    told = {event.index: event.evidence.verified for event in rig.of(Ended)}
    assert told == {0: -2.0, 1: -2.0, 2: 3.0, 3: None}
    assert not result.degraded
    again = history_of(rig.events, "p", 0).finished_trajectories()
    assert [t.evidence.verified for t in again] == [-2.0, -2.0, 3.0, None]


def test_an_early_vote_waits_for_what_it_says() -> None:
    """All say 1 but for the last, which is believed: while a score is out, its ballot is not in."""
    check = LastCheck({"p#0": -3.0, "p#1": -3.0, "p#2": -3.0, "p#3": 6.0}, delay_s=5.0)
    rig = rigged(check, vote={"rule": "verified", "stop": "posterior"})
    rig.says = every([says(1, 20 + i) for i in range(3)] + [says(7, 40)])
    result = solved(rig)
    assert (result.answer, result.num_votes) == (7, 4)
    assert {reason for _, reason, _ in check.asked} == {StopReason.MARK}


def test_only_those_that_vote_are_asked() -> None:
    check = LastCheck(LOGITS)
    rig = rigged(check, prune={"launch": 3, "keep": 1, "mark": 10, "scorer": "confidence"})
    rig.logprobs = {"p#2": -0.1}
    solved(rig)
    assert [name for name, _, _ in check.asked] == ["p#2"]


@pytest.mark.parametrize(
    "logits", [{"p#2": 3.0}, {**LOGITS, "p#0": float("nan"), "p#1": float("nan")}]
)
def test_what_it_cannot_score_weighs_half_and_is_told(logits: dict[str, float]) -> None:
    result = solved(rigged(LastCheck(logits)))
    assert result.weights == pytest.approx({1: 1.0, 7: 0.9526}, abs=1e-4)
    [doubt] = result.degradations
    assert doubt.kind is DegradationKind.SCORER_FAILED
    assert doubt.detail.startswith("the last check failed for 2 trajectories, the first with")


def test_forced_answers_are_scored_inside_the_reserve() -> None:
    check = LastCheck({f"p#{i}": 1.0 for i in range(4)})
    rig = rigged(check, budget={"time_limit_s": 30.0})
    rig.says, rig.delay_s = endless, 0.1
    result = solved(rig)
    assert result.weights == pytest.approx({42: 4 * 0.7311}, abs=1e-3)
    assert [event.stop_reason for event in rig.of(Ended)][4:] == [StopReason.DEADLINE] * 4
    assert len(check.asked) == 4


def test_a_check_that_a_deadline_cuts_leaves_the_answer_as_it_is() -> None:
    """Its turn is over: it is not made to conclude once more."""
    check = LastCheck(LOGITS, delay_s=1000.0)
    rig = rigged(check, budget={"time_limit_s": 60.0})
    result = solved(rig)
    assert result.votes == {1: 2, 7: 1} and result.weights == {1: 1.0, 7: 0.5}
    ended = {event.index: event.stop_reason for event in rig.of(Ended)}
    assert set(ended.values()) == {StopReason.ANSWERED}
