"""Several checks: each drops the least promising that are left, and one stage is the plain check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from solver.config import SolverConfig
from solver.errors import ScorerError
from solver.journal.events import Checked, Ended, Event, ProblemStarted, Solved
from solver.solving.session import run_session
from solver.types import PruneReason, StopReason, Trajectory
from tests.faults.test_short_time import PACE, TALE, names
from tests.faults.test_time import session
from tests.support import run_virtual
from tests.support.rig import DIALECT, Rig, config, every, ids, problem, says

STAGES = {"launch": 8, "mark": 10, "keep": 2, "stages": [[10, 4], [20, 2]], "scorer": "stop"}
TALES = every([says(index, 40 + index) for index in range(8)])


class Judge:
    """Before 15 tokens it likes high indices, later the lower ones of those it sees."""

    name = "stop"

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.asked: list[tuple[int, ...]] = []

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        self.asked.append(tuple(t.index for t in trajectories))
        [mark] = {t.num_sampled_tokens for t in trajectories}
        if mark == self.fails_at:
            raise ScorerError("broken")
        return [float(t.index if mark < 15 else -t.index) for t in trajectories]


def staged(judge: Judge | None = None, **sections: Mapping[str, object]) -> Rig:
    sections = {"prune": STAGES, "vote": {"stop": "off"}, **sections}
    return Rig(says=TALES, settings=config(**sections), scorer=judge or Judge())


def solved(rig: Rig) -> Solved:
    async def main() -> Solved:
        return (await run_session([problem()], rig.services(), solved={}))[0]

    return run_virtual(main())


def test_each_check_drops_of_those_that_are_left() -> None:
    rig, judge = (made := staged(Judge())), made.scorer
    assert isinstance(judge, Judge)
    result = solved(rig)
    assert judge.asked == [tuple(range(8)), (4, 5, 6, 7)]
    assert [(e.mark, e.kept, e.dropped) for e in rig.of(Checked)] == [
        (10, [4, 5, 6, 7], [0, 1, 2, 3]),
        (20, [4, 5], [6, 7]),
    ]
    assert result.votes == {4: 1, 5: 1} and not result.degraded
    ends = {e.index: (e.stop_reason, e.num_sampled_tokens) for e in rig.of(Ended)}
    assert [ends[index] for index in (0, 3, 6, 7)] == [
        (StopReason.PRUNED, 10), (StopReason.PRUNED, 10), (StopReason.PRUNED, 20), (StopReason.PRUNED, 20),
    ]  # fmt: skip
    assert result.sampled_tokens == 4 * 10 + 2 * 20 + sum(len(ids(TALES[f"p#{i}"])) for i in (4, 5))


def test_a_prefix_goes_on_from_the_very_ids_at_every_mark() -> None:
    rig = staged()
    solved(rig)
    whole = [*DIALECT.prompt(problem().statement), *ids(TALES["p#4"])]
    asked = [tokens for name, tokens in rig.requests if name == "p#4"]
    assert [len(tokens) - len(whole) + len(ids(TALES["p#4"])) for tokens in asked] == [0, 10, 20]
    assert all(list(tokens) == whole[: len(tokens)] for tokens in asked)


def plain(event: Event) -> dict[str, object]:
    return event.model_dump(exclude={"config"})


def test_one_stage_is_the_plain_check() -> None:
    stage = {"launch": 4, "mark": 10, "keep": 2, "scorer": "stop"}
    one = staged(prune={**stage, "stages": [[10, 2]]})
    other = staged(prune=stage)
    assert solved(one) == solved(other)
    assert list(map(plain, one.events)) == list(map(plain, other.events))


def test_a_scorer_that_fails_at_a_later_mark_costs_that_check_only() -> None:
    rig = staged(Judge(fails_at=20))
    result = solved(rig)
    first, second = rig.of(Checked)
    assert (first.reason, second.reason) == (PruneReason.SCORED, PruneReason.FALLBACK_RANDOM)
    assert len(second.kept) == 2 and set(second.kept) < {4, 5, 6, 7}
    assert result.degraded == ["scorer stop failed, kept at random: ScorerError: broken"]


def test_a_ballot_weighs_by_the_last_check_that_scored_it() -> None:
    """Trajectory 7 ends between the marks and keeps what the first check said."""
    rig = staged(vote={"stop": "off", "rule": "weighted"})
    rig.says = {**TALES, "p#7": says(7, 5)}
    result = solved(rig)
    assert result.votes == {7: 1, 4: 1, 5: 1}
    assert result.weights[7] == pytest.approx(0.9991, abs=1e-4), "7 at the first mark"
    assert result.weights[4] == pytest.approx(0.018, abs=1e-3), "-4 at the second"


def test_without_a_scorer_nobody_is_asked_and_nobody_waits() -> None:
    rig = staged(prune={**STAGES, "scorer": "none"})
    rig.scorer = None
    assert solved(rig).num_votes == 8
    assert [event.reason for event in rig.of(Checked)] == [PruneReason.SKIPPED]


@pytest.mark.parametrize("limit_s", [7.0, 15.0, 40.0])
def test_a_short_time_shrinks_every_keep_and_the_limit_holds(limit_s: float) -> None:
    budget = {"time_limit_s": limit_s, "closing_s": 0.0}
    tales = {who: text for name in names(6) for who, text in every([TALE] * 8, name).items()}
    settings = config(prune=STAGES, budget=budget, pace=PACE)
    rig = Rig(says=tales, settings=settings, delay_s=0.01, stream_s=0.01, scorer=Judge())
    answers, elapsed = session(rig, names(6))
    assert elapsed <= limit_s and len(answers) == 6
    assert sum(answer.num_votes > 0 for answer in answers) >= 4
    launched = {e.problem_id: e.launch for e in rig.of(ProblemStarted)}
    assert (limit_s == 40.0) == (set(launched.values()) == {8})
    for checked in rig.of(Checked):
        share = {10: 0.5, 20: 0.25}[checked.mark or 0]
        assert len(checked.kept) <= max(
            1, round(share * (launched[checked.problem_id] or 0) + 0.01)
        )


def test_the_same_seeds_give_the_same_choices_by_lot() -> None:
    kept = []
    for _ in range(2):
        rig = staged(prune={**STAGES, "scorer": "random"})
        rig.scorer = None
        solved(rig)
        kept.append([event.kept for event in rig.of(Checked)])
    assert kept[0] == kept[1] and [len(each) for each in kept[0]] == [4, 2]


def test_the_config_says_it_in_one_way() -> None:
    stages = SolverConfig.model_validate({"prune": {"stages": [[32, 16], [64, 8]]}}).prune
    assert (stages.mark, stages.keep, stages.checks) == (32, 8, ((32, 16), (64, 8)))
    plain = SolverConfig.model_validate({"prune": {"mark": 32, "keep": 8}}).prune
    assert plain.checks == ((32, 8),)
    again = SolverConfig.model_validate_json(SolverConfig(prune=stages).model_dump_json())
    assert again.prune == stages
