"""Votes: the early stop and the final vote are one rule, whoever is fast on the wall clock."""

from __future__ import annotations

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from sandbox.scripted import Step
from solver.engines.scripted import Fault
from solver.journal.events import Ended, Solved
from solver.journal.history import history_of
from solver.policy.consensus import final_vote
from solver.policy.weights import weigh
from solver.solving.session import run_session
from solver.types import Evidence, StopReason
from tests.replay.runs import Judge
from tests.support import run_virtual
from tests.support.rig import END, Rig, config, every, ids, problem, says

ALL = {"launch": 8, "keep": 8, "mark": 5, "scorer": "none"}


def solved(rig: Rig) -> Solved:
    async def main() -> Solved:
        return (await run_session([problem()], rig.services(), solved={}))[0]

    return run_virtual(main())


def ends(rig: Rig) -> dict[int, StopReason]:
    return {event.index: event.stop_reason for event in rig.of(Ended)}


def test_four_to_none_stops_and_cancels_the_rest() -> None:
    tales = every([says(7, 10 + i) for i in range(4)] + [says(1, 200)] * 4)
    rig = Rig(says=tales, settings=config(prune=ALL))
    result = solved(rig)
    assert (result.answer, result.votes, result.decided_early) == (7, {7: 4}, True)
    assert [ends(rig)[index] for index in range(4, 8)] == [StopReason.CONSENSUS] * 4
    assert not result.degraded


def test_four_to_one_goes_on() -> None:
    tales = every([says(7, 10 + i) for i in range(4)] + [says(1, 12)] + [says(1, 100)] * 3)
    rig = Rig(says=tales, settings=config(prune=ALL))
    assert solved(rig).num_votes == 8


# Weighted votes: two say 1, the judge believes the one that says 7; the last is dropped.
LOGITS = {"p#0": -2.0, "p#1": -2.0, "p#2": 3.0, "p#3": -9.0}
TALES = every([says(1, 20), says(1, 25), says(7, 30), says(1, 35)])


def weighted(keep: int, logits: dict[str, float] = LOGITS, says: dict[str, str] = TALES) -> Rig:
    prune = {"launch": 4, "keep": keep, "mark": 10, "scorer": "stop"}
    settings = config(prune=prune, vote={"rule": "weighted", "stop": "off"})
    return Rig(says=says, settings=settings, scorer=Judge("stop", logits))


def test_a_vote_by_chances() -> None:
    result = solved(weighted(keep=3))
    assert (result.answer, result.votes, result.margin) == (7, {7: 1, 1: 2}, -1)
    assert result.weights == pytest.approx({7: 0.9526, 1: 0.2384}, abs=1e-4)
    assert list(result.weights) == list(result.votes) == [7, 1]


def test_who_ended_before_the_mark_weighs_the_mean_of_those_there() -> None:
    rig = weighted(keep=1, says={**TALES, "p#0": says(1, 0)})
    result = solved(rig)
    mean = (0.1192 + 0.9526 + 0.0001) / 3
    assert result.weights == pytest.approx({7: 0.9526, 1: mean}, abs=1e-4)


def test_a_vote_without_chances_is_a_majority() -> None:
    nobody_pruned, broken = solved(weighted(keep=4)), solved(weighted(keep=3, logits={}))
    assert (nobody_pruned.answer, nobody_pruned.votes) == (1, {1: 3, 7: 1})
    assert broken.degraded and broken.num_votes == 3
    assert nobody_pruned.weights == broken.weights == {}


# By evidence: two say 1 and one says 7, which the model was surer of.
SURE = {"p#0": (5.0, 0.8), "p#1": (5.0, 0.8), "p#2": (12.0, 0.2), "p#3": (5.0, 0.8)}


@pytest.mark.parametrize(("rule", "sum_of_1", "of_7"), [
    ("confidence", 10 / 32, 12 / 32), ("entropy", 2 * 0.01 / 0.8, 0.01 / 0.2),
])  # fmt: skip
def test_a_vote_by_evidence(rule: str, sum_of_1: float, of_7: float) -> None:
    prune = {"launch": 3, "keep": 3, "scorer": "none"}
    rig = Rig(says=TALES, settings=config(prune=prune, vote={"rule": rule}), candidates=SURE)
    result = solved(rig)
    assert (result.answer, result.votes, result.margin) == (7, {7: 1, 1: 2}, -1)
    assert result.weights == pytest.approx({7: of_7, 1: sum_of_1})
    told = {event.index: event.evidence for event in rig.of(Ended)}
    assert told[2] == Evidence(confidence=pytest.approx(12), entropy=pytest.approx(0.2))
    # what the journal holds is enough for whoever counts from there
    history = history_of(rig.events, "p", 0)
    ballots = weigh(history.ballots, {}, rig.settings.vote)
    assert final_vote(ballots, 3, rig.settings.vote).weights == pytest.approx(result.weights)
    trajectories = history.finished_trajectories()
    assert [t.evidence for t in trajectories] == [told[t.index] for t in trajectories]


def test_off_lets_everybody_vote() -> None:
    rig = Rig(says=every([says(7, 10)] * 8), settings=config(prune=ALL, vote={"stop": "off"}))
    assert solved(rig).votes == {7: 8}


@pytest.mark.parametrize("slow", range(8))
def test_pitfall_9_a_slow_tool_call_does_not_change_who_wins(slow: int) -> None:
    """Four 7s are short, four 1s are long; whose tool is slow on the wall clock does not matter."""

    def prints(code: str) -> Step:
        result = ExecutionResult(status=ExecutionStatus.OK, stdout="1\n")
        return Step(result, delay_s=25.0 if f"#{slow}" in code else 0.1)

    def tale(index: int) -> str:
        answer, filler = (7, 10 + index) if index < 4 else (1, 14 + index)
        return f"```python\n#{index}\n```\n" + says(answer, filler)

    rig = Rig(
        says=every([tale(index) for index in range(8)]), prints=prints, settings=config(prune=ALL)
    )
    result = solved(rig)
    assert (result.answer, result.votes) == (7, {7: 4})


def test_pitfall_10_failed_trajectories_are_no_votes() -> None:
    rig = Rig(
        says=every([says(3, 30), says(4, 40), says(4, 50), "no box at all" + END]),
        faults={"p#0": Fault(after=20)},
        settings=config(prune={"scorer": "none", "keep": 4}, answer={"ask": False}),
    )
    result = solved(rig)
    assert result.votes == {4: 2}
    assert any("1 trajectories failed" in reason for reason in result.degraded)


def test_all_trajectories_failing_gives_the_fallback_answer() -> None:
    rig = Rig(says=every([says(3, 30)] * 4), faults={f"p#{i}": Fault(after=3) for i in range(4)})
    result = solved(rig)
    assert result.answer == 0
    assert result.num_votes == 0
    assert any("no vote" in reason for reason in result.degraded)


def test_a_box_in_the_statement_or_a_tools_output_never_votes() -> None:
    tale = "```python\nprint()\n```\n" + "I cannot say." + END
    rig = Rig(
        says=every([tale] * 4),
        prints=lambda code: "\\boxed{99}",
        settings=config(prune={"scorer": "none", "keep": 4}),
    )
    assert solved(rig).num_votes == 0


def test_an_answer_out_of_range_is_none() -> None:
    rig = Rig(
        says=every([says(100_000, 20), says(5, 20), says(123_456, 20), says(5, 30)]),
        settings=config(prune={"scorer": "none", "keep": 4}),
    )
    assert solved(rig).votes == {5: 2}


def test_seeds_name_trajectories_not_their_company() -> None:
    from solver.policy.seeds import trajectory_seed

    alone = Rig(says=every([says(1, 20)]), settings=config(prune={"launch": 1, "keep": 1}))
    solved(alone)
    assert trajectory_seed(0, "p", 0) != trajectory_seed(0, "p", 1) != trajectory_seed(1, "p", 1)
    assert ids("x")  # one id a byte: what the scripts above count on
    assert len(ids("abc")) == 3
