"""Time: absolute deadlines on one clock, forced answers before them, a row for every problem."""

from __future__ import annotations

import asyncio
import math

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from sandbox.scripted import Step
from solver.engines.scripted import Fault, Script
from solver.errors import EngineError
from solver.journal.events import Forced, ProblemStarted, Solved
from solver.solving.session import run_session
from solver.solving.solve import solve
from solver.solving.state import ProblemState
from solver.types import StopReason
from tests.support import run_virtual
from tests.support.rig import DIALECT, END, Rig, budget, config, every, ids, problem, says

BRACE = ids("{")[0]


def endless(_: str, so_far: tuple[int, ...]) -> list[int]:
    """Thinks for ever, but can be made to answer."""
    return ids("42}." + END) if so_far[-1] == BRACE else ids("hm " * 100)


def session(rig: Rig, names: list[str], stop_after: float = math.inf) -> tuple[list[Solved], float]:
    async def main() -> tuple[list[Solved], float]:
        services = rig.services()
        loop = asyncio.get_running_loop()
        if stop_after < math.inf:
            loop.call_later(stop_after, services.stopping.set)
        answers = await run_session([problem(name) for name in names], services, solved={})
        return answers, services.elapsed()

    return run_virtual(main())


def limited(seconds: float) -> dict[str, object]:
    return {"time_limit_s": seconds, "closing_s": 1.0}


def test_near_the_deadline_answers_are_forced() -> None:
    rig = Rig(says=endless, settings=config(budget=limited(30.0)), delay_s=0.1)
    (result,), elapsed = session(rig, ["p"])
    assert result.answer == 42
    assert len(rig.of(Forced)) == 2  # the survivors only
    assert any("time was short" in reason for reason in result.degraded)
    assert elapsed <= 30.0


def test_pitfall_11_every_problem_has_a_row_and_the_limit_holds() -> None:
    names = [f"p{i}" for i in range(12)]
    rig = Rig(says=endless, settings=config(budget=limited(60.0)), delay_s=0.1)
    answers, elapsed = session(rig, names)
    assert [a.problem_id for a in answers] == names
    assert all(a.answer == 42 for a in answers)
    assert elapsed <= 60.0


def test_problems_solved_at_once_keep_the_limit_and_their_answers() -> None:
    names = [f"p{i}" for i in range(7)]
    says_all = {k: says(7, 60) for name in names for k in every(["."] * 4, name)}
    seen = {}
    for at_once in (1, 3):
        rig = Rig(says=says_all, settings=config(budget={"problems_at_once": at_once}), delay_s=0.1)
        answers, elapsed = session(rig, names)
        assert [(a.problem_id, a.answer, a.degraded) for a in answers] == [
            (name, 7, []) for name in names
        ]
        seen[at_once] = elapsed
    assert seen[3] == pytest.approx(seen[1] * 3 / 7)  # rounds of 3, 3 and 1 instead of 7

    hard = Rig(
        says=endless,
        settings=config(budget={**limited(30.0), "problems_at_once": 3}),
        delay_s=0.1,
    )
    answers, elapsed = session(hard, names)
    assert [a.answer for a in answers] == [42] * 7
    assert elapsed <= 30.0


def test_start_up_counts() -> None:
    async def main() -> list[Solved]:
        rig = Rig(says=endless, settings=config(budget=limited(30.0)))
        services = rig.services()
        await asyncio.sleep(40.0)  # loading took longer than there was time
        return await run_session([problem()], services, solved={})

    (result,) = run_virtual(main())
    assert result.answer == 0
    assert result.degraded == ["no time: not started", "no vote: fallback answer 0"]


def test_a_fast_problem_banks_its_time() -> None:
    prompt = len(DIALECT.prompt("1+1?"))

    def quick(who: str, so_far: tuple[int, ...]) -> list[int]:
        if who.startswith("p0"):
            return ids(says(1, 20))[len(so_far) - prompt :]
        return endless(who, so_far)

    def second_allotment(script: Script) -> float:
        rig = Rig(says=script, settings=config(budget=limited(100.0)), delay_s=0.1)
        session(rig, ["p0", "p1"])
        return rig.of(ProblemStarted)[1].allotted_s

    assert second_allotment(quick) > second_allotment(endless)


@pytest.mark.parametrize("after", [0, 5, 15])
def test_pitfall_12_a_silent_engine_does_not_hang_the_problem(after: int) -> None:
    rig = Rig(
        says=endless,
        faults={f"p#{i}": Fault(after=after, hang=True) for i in range(4)},
        settings=config(budget=limited(20.0)),
    )
    (result,), elapsed = session(rig, ["p"])
    assert elapsed <= 20.0
    assert result.degraded


def test_one_silent_trajectory_costs_only_itself() -> None:
    tales = every([says(6, 20)] * 4)
    rig = Rig(
        says=tales,
        faults={"p#0": Fault(after=15, hang=True)},
        settings=config(prune={"scorer": "none", "keep": 4}, budget=limited(20.0)),
    )
    (result,), _ = session(rig, ["p"])
    assert result.answer == 6
    assert result.votes == {6: 2}, "two of three settle it, once the silent one was given up"


def test_pitfall_13_what_was_sampled_before_the_deadline_is_kept_and_can_answer() -> None:
    """The box is written but the turn is not over when the context is full: the box still counts."""
    context = 110
    rig = Rig(
        says=lambda *_: ids("\\boxed{31} and then" + " hm" * 200),
        settings=config(prune={"mark": 15}),
        context_length=context,
        delay_s=0.1,
    )

    async def main() -> ProblemState:
        state = ProblemState(problem(), budget(4.0, reserve=0.5))
        await solve(state, rig.services())
        return state

    state = run_virtual(main())
    kept = [t for t in state.trajectories if t.stop_reason is not StopReason.PRUNED]
    assert [t.answer for t in kept] == [31, 31]


def test_a_forced_answer_that_hangs_is_left_at_the_deadline() -> None:
    rig = Rig(says=endless, settings=config(budget=limited(20.0)), delay_s=3.0)
    (result,), elapsed = session(rig, ["p"])
    assert elapsed <= 20.0
    assert result.answer in (0, 42)


def test_a_forced_answer_that_fails_costs_only_itself() -> None:
    def script(who: str, so_far: tuple[int, ...]) -> list[int]:
        if so_far[-1] == BRACE and who == "p#0":
            raise EngineError("lost")
        return endless(who, so_far)

    rig = Rig(
        says=script,
        settings=config(prune={"scorer": "none", "keep": 4}, budget=limited(20.0)),
        delay_s=0.1,
    )
    (result,), _ = session(rig, ["p"])
    assert result.votes == {42: 2}, "two of four settle it when one abstains"
    assert any("1 trajectories failed" in reason for reason in result.degraded)


def test_a_slow_tool_call_is_bounded_by_the_deadline() -> None:
    result = ExecutionResult(status=ExecutionStatus.OK, stdout="1\n")
    rig = Rig(
        says=lambda who, so_far: (
            ids("5}" + END) if so_far[-1] == BRACE else ids("```python\nf()\n```\n")
        ),
        prints=lambda code: Step(result, delay_s=1000.0),
        settings=config(budget=limited(20.0)),
    )
    (solved,), elapsed = session(rig, ["p"])
    assert elapsed <= 20.0
    assert solved.answer == 5


def test_a_bug_inside_a_problem_costs_that_problem_only() -> None:
    rig = Rig(says=every([says(1, 20)] * 4, "p0") | every([says(2, 20)] * 4, "p1"))

    async def main() -> list[Solved]:
        services = rig.services()
        whole = services.record

        def record(event: object) -> None:
            if getattr(event, "type", "") == "checked" and event.problem_id == "p0":
                raise ZeroDivisionError("a bug")
            whole(event)

        object.__setattr__(services, "record", record)
        answers = await run_session([problem("p0"), problem("p1")], services, solved={})
        assert rig.pool.open_leases == 0
        return answers

    first, second = run_virtual(main())
    assert any("ZeroDivisionError" in reason for reason in first.degraded)
    assert second.answer == 2


def test_an_interrupt_votes_on_what_is_there_and_answers_every_row() -> None:
    rig = Rig(says=endless, delay_s=0.1)
    answers, elapsed = session(rig, ["a", "b", "c"], stop_after=2.0)
    assert len(answers) == 3
    assert elapsed < 3.0
    assert not rig.of(Solved), "a later run may still solve them"
    assert all("interrupted" in answer.degraded[0] for answer in answers)


def test_solved_problems_are_not_solved_again() -> None:
    rig = Rig(says=every([says(1, 20)] * 4, "b"))

    async def main() -> list[Solved]:
        done = Solved(
            problem_id="a", answer=9, votes={9: 1}, num_votes=1, margin=1, tied=False,
            decided_early=False, elapsed_s=1, sampled_tokens=1, reused_tokens=0,
            encoded_tokens=0, degraded=[],
        )  # fmt: skip
        return await run_session([problem("a"), problem("b")], rig.services(), solved={"a": done})

    answers = run_virtual(main())
    assert [a.answer for a in answers] == [9, 1]
    assert [e.problem_id for e in rig.of(Solved)] == ["b"]
