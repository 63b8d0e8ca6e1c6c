"""Harmony in a whole solve: a cut anywhere changes nothing, unknown tools are answered and not run."""

from __future__ import annotations

import math

import pytest

from sandbox.result import ExecutionStatus
from solver.journal.events import Executed
from solver.solving.solve import solve
from solver.solving.state import ProblemState
from solver.types import StopReason
from tests.support import run_virtual
from tests.support.harmony import CALL, FINAL, NEXT, THOUGHT, dialect, ids
from tests.support.rig import Rig, budget, config, problem

DIALECT = dialect()
UNKNOWN = "<|channel|>commentary to=functions.x<|message|>{}<|call|>"
BROKEN = "<|channel|>analysis to=python<|channel|>code<|message|>print(1)<|call|>"
TALE = ids(THOUGHT + NEXT + CALL + THOUGHT + NEXT + UNKNOWN + CALL + FINAL)


def rig(tale: list[int], mark: int = 400, **sections: dict[str, object]) -> Rig:
    settings = config(**{"prune": {"launch": 1, "keep": 1, "mark": mark}, **sections})
    return Rig(says={"p#0": tale}, prints=lambda _: "42\n", settings=settings, dialect=DIALECT)


def run(scripted: Rig, seconds: float = math.inf, reserve: float = 0.0) -> ProblemState:
    async def main() -> ProblemState:
        state = ProblemState(problem(), budget(seconds, reserve))
        await solve(state, scripted.services())
        assert not scripted.engine.open_requests
        assert scripted.pool.open_leases == 0
        return state

    return run_virtual(main())


UNCUT = run(rig(TALE)).trajectories[0]


def test_a_tale_with_every_kind_of_turn() -> None:
    assert UNCUT.answer == 42
    assert UNCUT.stop_reason is StopReason.ANSWERED
    assert [turn.tool_call for turn in UNCUT.turns] == ["x = 6 * 7\nx", "", "x = 6 * 7\nx", None]
    assert [turn.execution is not None for turn in UNCUT.turns] == [True, True, True, False]
    assert [i for turn in UNCUT.turns for i in turn.token_ids] == TALE


@pytest.mark.parametrize("mark", range(1, len(TALE) + 1))
def test_pitfalls_1_and_2_a_mark_anywhere_changes_nothing(mark: int) -> None:
    """In a header, in a call, in a character, in the final message: the same trajectory."""
    scripted = rig(TALE, mark)
    assert run(scripted).trajectories[0].token_ids == UNCUT.token_ids
    assert scripted.pool.executed == [(1, "x = 6 * 7\nx")] * 2
    for (_, earlier), (_, later) in zip(scripted.requests, scripted.requests[1:], strict=False):
        assert later[: len(earlier)] == earlier


@pytest.mark.parametrize("call", [UNKNOWN, BROKEN])
def test_a_call_of_anything_else_is_answered_in_the_journal_and_the_attempt_goes_on(
    call: str,
) -> None:
    scripted = rig(ids(call + FINAL))
    state = run(scripted)
    assert scripted.pool.executed == [] and scripted.pool.leases == 0
    assert state.trajectories[0].answer == 42
    (event,) = scripted.of(Executed)
    assert (event.code, event.result.status) == ("", ExecutionStatus.REFUSED)
    assert "the only tool is python" in DIALECT.text(event.appended_token_ids)


def test_unknown_tools_count_as_calls_so_that_it_ends() -> None:
    scripted = rig([], sampling={"max_turns": 4, "max_tokens": 400})
    scripted.says = lambda _, so_far: (
        ids("7}<|return|>") if DIALECT.text(so_far[-3:]).endswith("boxed{") else ids(UNKNOWN)
    )
    (trajectory,) = run(scripted).trajectories
    assert trajectory.stop_reason is StopReason.MAX_TURNS
    assert trajectory.num_tool_calls == 4
    assert trajectory.answer == 7


def test_nothing_is_sampled_behind_a_final_message_that_ends_as_a_thought_does() -> None:
    ending = ids(FINAL.replace("<|return|>", "<|end|>"))
    scripted = rig(ending + ids("<|start|>user<|message|>\\boxed{8}<|end|>"))
    (trajectory,) = run(scripted).trajectories
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert trajectory.turns[0].token_ids == ending
    assert trajectory.answer == 42


def test_pitfall_3_a_call_cut_by_the_deadline_is_never_run() -> None:
    scripted = rig(ids(CALL.replace("x = ", "x = 1 + " * 60)))
    scripted.delay_s = 0.1
    state = run(scripted, seconds=3.0, reserve=0.5)
    assert scripted.pool.executed == []
    assert state.trajectories[0].stop_reason is StopReason.DEADLINE


@pytest.mark.parametrize("length", range(100, 110))
def test_a_full_context_ends_the_trajectory_with_a_forced_answer(length: int) -> None:
    scripted = rig(ids("<|channel|>analysis<|message|>" + " no" * 400))
    scripted.context_length = len(DIALECT.prompt(problem().statement)) + length
    (trajectory,) = run(scripted).trajectories
    assert trajectory.stop_reason is StopReason.MAX_TOKENS
    assert len(trajectory.token_ids) <= scripted.context_length
    assert len(trajectory.turns) == 2, "the second one is the answer in the model's name"
    assert 0 < len(trajectory.turns[1].token_ids) <= 16
