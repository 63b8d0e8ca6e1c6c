"""Token state: ids only grow, a cut is never an end, and nothing half-written runs."""

from __future__ import annotations

import math

import pytest

from sandbox.scripted import Step
from solver.journal.events import Ended, Executed, Sampled
from solver.solving.solve import solve
from solver.solving.state import ProblemState
from solver.types import StopReason, Trajectory
from tests.support import run_virtual
from tests.support.rig import DIALECT, END, Rig, budget, config, every, ids, problem

CALL = "```python\nx = 6 * 7\nprint(x)\n```\n"
TALE = ["Plan: compute.\n" + CALL, "It is 42, é∑.\nThe answer is \\boxed{42}." + END]


def run(rig: Rig, seconds: float = math.inf, reserve: float = 0.0) -> ProblemState:
    async def main() -> ProblemState:
        services = rig.services()
        state = ProblemState(problem(), budget(seconds, reserve))
        await solve(state, services)
        assert not rig.engine.open_requests
        assert rig.pool.open_leases == 0
        return state

    return run_virtual(main())


def one(mark: int) -> Rig:
    return Rig(
        says=every(["".join(TALE)]),
        prints=lambda code: "42\n",
        settings=config(prune={"launch": 1, "keep": 1, "mark": mark}),
    )


UNCUT = run(one(mark=400))


@pytest.mark.parametrize("mark", range(1, len(ids("".join(TALE))) + 1))
def test_pitfalls_1_and_2_a_mark_anywhere_changes_nothing(mark: int) -> None:
    """In a header, in the call, in a character, in the box, on the last token: the same trajectory."""
    rig = one(mark)
    state = run(rig)
    assert state.trajectories[0].token_ids == UNCUT.trajectories[0].token_ids
    assert state.trajectories[0].answer == 42
    assert rig.pool.executed == [(1, "x = 6 * 7\nprint(x)")]


@pytest.mark.parametrize("mark", [1, 14, 20, 50, 60, 80])
def test_resume_asks_for_the_very_ids_that_were_sampled(mark: int) -> None:
    rig = one(mark)
    run(rig)
    for (_, earlier), (_, later) in zip(rig.requests, rig.requests[1:], strict=False):
        assert later[: len(earlier)] == earlier
    assert rig.engine.stats.requests == len(rig.requests) >= 2


def test_scorer_sees_the_very_ids_that_were_sampled() -> None:
    seen: list[list[int]] = []

    class Spy:
        name = "confidence"

        async def score(self, trajectories, deadline):  # type: ignore[no-untyped-def]
            seen.extend(t.token_ids for t in trajectories)
            return [0.0] * len(trajectories)

    rig = Rig(says=every(["Plan: compute it\\boxed{1}" + END] * 4), scorer=Spy())
    run(rig)
    prompt = DIALECT.prompt(problem().statement)
    assert seen == [prompt + ids("Plan: comp")] * 4


def test_a_call_that_is_complete_at_the_mark_runs_after_the_check_only() -> None:
    tale = [f"{i}\n{CALL}So \\boxed{{{i}}}.{END}" for i in range(4)]
    rig = Rig(
        says=every(tale),
        prints=lambda code: "42\n",
        settings=config(prune={"mark": len(ids("0\n" + CALL))}),
    )
    state = run(rig)
    executed = {event.index for event in rig.of(Executed)}
    assert executed == set(state.decisions[0].kept)
    assert len(rig.pool.executed) == 2


def test_pitfall_3_a_call_cut_by_the_deadline_is_never_run() -> None:
    rig = Rig(says=every(["```python\nprint(" + "1" * 300 + ")\n```\n"] * 4), delay_s=0.1)
    state = run(rig, seconds=5.0, reserve=0.5)
    assert rig.pool.executed == []
    assert all(
        t.stop_reason in (StopReason.DEADLINE, StopReason.PRUNED) for t in state.trajectories
    )


def test_pitfall_4_tool_output_is_not_sampled() -> None:
    loud = "7" * 50
    rig = Rig(
        says=every([TALE[0] + TALE[1]] * 4),
        prints=lambda code: loud,
        settings=config(prune={"mark": len(ids(TALE[0])) + 5}),
    )
    state = run(rig)
    for trajectory in state.trajectories:
        sampled = sum(
            len(event.token_ids) for event in rig.of(Sampled) if event.index == trajectory.index
        )
        assert trajectory.num_sampled_tokens == sampled
        assert len(trajectory.token_ids) >= len(ids(loud)) + sampled
    marks = [event for event in rig.of(Ended) if event.stop_reason is StopReason.MARK]
    assert [event.num_sampled_tokens for event in marks] == [len(ids(TALE[0])) + 5] * 4


def test_each_trajectory_keeps_its_own_kernel_over_the_mark() -> None:
    tale = f"{CALL}more words here\n{CALL}\\boxed{{1}}{END}"
    rig = Rig(
        says=every([tale] * 4),
        prints=lambda code: "42\n",
        settings=config(prune={"mark": len(ids(CALL)) + 3}),
    )
    state = run(rig)
    assert rig.pool.leases == 4  # one each, at the first call
    kept = set(state.decisions[0].kept)
    calls = {event.index: 0 for event in rig.of(Executed)}
    for event in rig.of(Executed):
        calls[event.index] += 1
    assert calls == {index: 2 if index in kept else 1 for index in range(4)}


def test_pruned_trajectories_hold_nothing_while_the_others_go_on() -> None:
    held: list[int] = []

    def prints(code: str) -> Step:
        held.append(rig.pool.open_leases)
        from sandbox.result import ExecutionResult, ExecutionStatus

        return Step(ExecutionResult(status=ExecutionStatus.OK, stdout="1\n"), delay_s=1.0)

    tale = f"{CALL}more words here\n{CALL}\\boxed{{1}}{END}"
    rig = Rig(
        says=every([tale] * 4),
        prints=prints,
        settings=config(prune={"mark": len(ids(CALL)) + 3}),
    )
    run(rig)
    assert max(held[:4]) == 4
    assert max(held[4:]) == 2


def test_turn_limit_is_a_named_end_with_a_forced_answer() -> None:
    rig = Rig(
        says=lambda _, so_far: ids("7}." + END) if so_far[-1] == ids("{")[0] else ids(CALL),
        prints=lambda code: "1\n",
        settings=config(sampling={"max_turns": 3}, prune={"launch": 1, "keep": 1}),
    )
    state = run(rig)
    assert len(rig.pool.executed) == 3
    assert state.trajectories[0].stop_reason is StopReason.MAX_TURNS
    assert state.trajectories[0].answer == 7


def test_token_limit_is_a_named_end_with_a_forced_answer() -> None:
    rig = Rig(
        says=lambda _, so_far: ids("8}." + END) if so_far[-1] == ids("{")[0] else ids("." * 99),
        settings=config(sampling={"max_tokens": 50}, prune={"launch": 1, "keep": 1}),
    )
    state = run(rig)
    assert state.trajectories[0].stop_reason is StopReason.MAX_TOKENS
    assert state.trajectories[0].answer == 8


def in_a_context_of(length: int, writes: str, prints: str = "") -> tuple[Trajectory, Rig]:
    """One trajectory that `writes` for ever, and concludes with 8 where it is made to."""
    rig = Rig(
        says=lambda _, so_far: ids("8}." + END) if so_far[-1] == ids("{")[0] else ids(writes),
        prints=lambda code: prints,
        context_length=length,
        settings=config(prune={"launch": 1, "keep": 1}),
    )
    [trajectory] = run(rig).trajectories
    assert len(trajectory.token_ids) <= length
    return trajectory, rig


@pytest.mark.parametrize("length", range(100, 140))
@pytest.mark.parametrize("writes", ["." * 99, "```\n" * 40, "<think>" * 20])
def test_a_full_context_is_a_named_end_with_a_forced_answer(length: int, writes: str) -> None:
    trajectory, _ = in_a_context_of(length, writes)
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.MAX_TOKENS, 8)


def test_an_output_that_would_fill_the_context_is_cut() -> None:
    trajectory, rig = in_a_context_of(600, CALL, "9" * 20_000)
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.MAX_TOKENS, 8)
    assert len(rig.pool.executed) > 1, "there is room to go on behind the cut output"
    first = next(event for event in rig.events if isinstance(event, Executed))
    assert first.result.truncated
    assert "not shown" in DIALECT.text(first.appended_token_ids)


@pytest.mark.parametrize("length", range(120, 180))
def test_a_call_without_room_for_its_output_is_concluded(length: int) -> None:
    trajectory, _ = in_a_context_of(length, CALL, "9" * 20_000)
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.MAX_TOKENS, 8)
