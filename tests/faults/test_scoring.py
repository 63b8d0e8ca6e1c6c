"""Scoring: a failure is a named, seeded fallback that everybody gets to see."""

from __future__ import annotations

import asyncio
import math

import pytest

from solver.errors import ScorerError
from solver.journal.events import Checked, Solved
from solver.solving.session import run_session
from solver.solving.solve import solve
from solver.solving.state import ProblemState
from solver.types import PruneReason, StopReason
from tests.support import run_virtual
from tests.support.rig import Rig, budget, every, problem, says

TALES = every([says(i, filler=20) for i in range(4)])


class Scripted:
    name = "confidence"

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    async def score(self, trajectories, deadline):  # type: ignore[no-untyped-def]
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome == "hang":
            await asyncio.sleep(math.inf)
        return self.outcome


def solved(rig: Rig) -> Solved:
    async def main() -> Solved:
        return (await run_session([problem()], rig.services(), solved={}))[0]

    return run_virtual(main())


@pytest.mark.parametrize(
    "outcome",
    [ScorerError("no adapter"), ZeroDivisionError(), [1.0], [math.nan] * 4, [math.inf] * 4, None],
)
def test_pitfall_5_a_failing_scorer_is_a_named_seeded_fallback(outcome: object) -> None:
    kept = set()
    for _ in range(2):
        rig = Rig(says=TALES, scorer=Scripted(outcome))
        result = solved(rig)
        (checked,) = rig.of(Checked)
        assert checked.reason is PruneReason.FALLBACK_RANDOM
        assert checked.error
        assert len(checked.kept) == 2
        assert any("kept at random" in reason for reason in result.degraded)
        kept.add(tuple(checked.kept))
    assert len(kept) == 1, "the same seed keeps the same ones"


def test_the_fallback_is_not_the_first_k() -> None:
    """The reference solver keeps attempts 0..K-1 when scoring fails; a seeded choice does not."""
    kept = set()
    for seed in range(8):
        rig = Rig(says=TALES, scorer=Scripted(ScorerError("x")))
        rig.settings = rig.settings.model_copy(update={"seed": seed})
        solved(rig)
        kept.add(tuple(rig.of(Checked)[0].kept))
    assert len(kept) > 1


def test_pitfall_7_a_scorer_that_ignores_the_deadline_is_cut_off() -> None:
    async def main() -> tuple[ProblemState, float]:
        rig = Rig(says=TALES, scorer=Scripted("hang"))
        services = rig.services()
        began = services.clock.now()
        state = ProblemState(problem(), budget(20.0, reserve=5.0))
        await solve(state, services)
        return state, services.clock.now() - began

    state, elapsed = run_virtual(main())
    assert state.decisions[0].reason is PruneReason.FALLBACK_RANDOM
    assert elapsed <= 20.0
    assert sum(t.answer is not None for t in state.trajectories) == 0 or elapsed >= 15.0


def test_best_scores_are_kept_and_the_others_are_freed_at_once() -> None:
    rig = Rig(says=TALES, scorer=Scripted([0.1, 0.9, 0.2, 0.8]))
    result = solved(rig)
    assert rig.of(Checked)[0].kept == [1, 3]
    assert set(result.votes) == {1, 3}


def test_those_who_ended_before_the_mark_vote_and_take_no_place() -> None:
    tales = every([says(5), says(1, 30), says(2, 30), says(3, 30)])
    rig = Rig(says=tales, scorer=Scripted([0.1, 0.9, 0.8]))
    rig.settings = rig.settings.model_copy(
        update={"vote": rig.settings.vote.model_copy(update={"stop": "off"})}
    )
    result = solved(rig)
    assert rig.of(Checked)[0].kept == [2, 3]
    assert result.votes == {5: 1, 2: 1, 3: 1}


def test_none_keeps_everybody() -> None:
    rig = Rig(says=TALES, scorer=None)
    rig.settings = rig.settings.model_copy(
        update={"prune": rig.settings.prune.model_copy(update={"scorer": "none"})}
    )
    result = solved(rig)
    assert rig.of(Checked)[0].reason is PruneReason.SKIPPED
    assert result.num_votes == 4


def test_random_is_a_choice_and_no_fallback() -> None:
    rig = Rig(says=TALES, scorer=None)
    rig.settings = rig.settings.model_copy(
        update={"prune": rig.settings.prune.model_copy(update={"scorer": "random"})}
    )
    result = solved(rig)
    assert rig.of(Checked)[0].reason is PruneReason.SCORED
    assert not result.degraded


def test_pruned_do_not_vote() -> None:
    async def main() -> ProblemState:
        rig = Rig(says=every([says(9, 20)] * 2 + [says(1, 20)] * 2), scorer=Scripted([0, 0, 1, 1]))
        state = ProblemState(problem(), budget(math.inf))
        vote = await solve(state, rig.services())
        assert vote.counts == {1: 2}
        return state

    state = run_virtual(main())
    assert [t.stop_reason for t in state.trajectories[:2]] == [StopReason.PRUNED] * 2
