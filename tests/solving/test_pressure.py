"""A full cache before the mark: the least promising trajectory goes, and no prefix is encoded again."""

from __future__ import annotations

import asyncio
import csv
import math
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from sandbox.scripted import Step
from solver import Problem, build, load_config
from solver.journal.events import Checked, Crowded, Ended, Event, Sampled
from solver.journal.history import history_of
from solver.solving.session import run_session
from solver.solving.solve import solve
from solver.solving.state import ProblemState
from solver.types import DegradationKind, StopReason
from tests.support import run_virtual
from tests.support.rig import Rig, budget, config, every, problem, says

EXAMPLES = Path(__file__).parents[2] / "examples" / "problems.csv"
CALL = "```python\nprint(1)\n```\n"


@pytest.mark.torch
@pytest.mark.parametrize("scorer", ["stop", "confidence"])
async def test_nothing_is_encoded_twice_before_the_last_mark(scorer: str) -> None:
    """The embedded model, whose cache holds less than half of what is launched."""
    settings = load_config(
        sets=[
            "model.max_cached_tokens=512", "model.threads=1", f"prune.scorer={scorer}",
            "prune.launch=16", "prune.keep=4", "sampling.max_tokens=48", "vote.stop=off",
        ]
    )  # fmt: skip
    with EXAMPLES.open(encoding="utf-8", newline="") as file:
        row = next(iter(csv.DictReader(file)))
    events: list[Event] = []
    began = time.monotonic()
    async with build.services(
        settings, record=events.append, started_at=began, stopping=asyncio.Event()
    ) as services:
        asked = [Problem("a", row["problem"], int(row["answer"]))]
        [answer] = await run_session(asked, services, solved={})
        stats = services.engine.stats  # type: ignore[attr-defined]
    assert stats.re_encoded == stats.evicted_pauses == 0
    crowded = [event for event in events if isinstance(event, Crowded)]
    [checked] = [event for event in events if isinstance(event, Checked)]
    assert 4 <= len(crowded) <= 12
    assert all(event.index == min(event.scores, key=lambda i: event.scores[i]) for event in crowded)
    assert len(checked.kept) == 4 and len(checked.kept) + len(checked.dropped) == 16 - len(crowded)
    ends = {e.index: e.stop_reason for e in events if isinstance(e, Ended)}
    assert all(ends[event.index] is StopReason.PRUNED for event in crowded)
    sampled = {e.index for e in events if isinstance(e, Sampled)}
    assert sampled == set(range(16)), "everybody had a chance"
    [reason] = [d for d in answer.degradations if d.kind is DegradationKind.CROWDED]
    assert reason.detail == (
        f"the cache was full: {len(crowded)} of 16 trajectories dropped before mark 32"
    )
    assert history_of(events, "a", 0).dropped == set(), "a process that goes on asks anew"


def slow_call(code: str) -> Step:
    return Step(ExecutionResult(status=ExecutionStatus.OK, stdout="1\n"), delay_s=25.0)


def relieved(rig: Rig, at_s: float, asking: str = "p#3") -> tuple[ProblemState, list[bool]]:
    """The problem solved, and what was said when room was asked for after `at_s` seconds."""
    said: list[bool] = []

    async def main() -> ProblemState:
        services = rig.services()
        state = ProblemState(problem(), budget(math.inf))

        async def ask() -> None:
            await asyncio.sleep(at_s)
            said.append(await services.pressure.relieve(asking))

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            await solve(state, services)
        return state

    return run_virtual(main()), said


def crowded_rig(**sections: Mapping[str, object]) -> Rig:
    """All are in a slow tool call before the mark after a second; 1 is the least sure."""
    tales = every([CALL + says(index, 30) for index in range(4)])
    prune = {"mark": 40, **sections.pop("prune", {})}
    settings = config(prune=prune, vote={"stop": "off"}, **sections)
    return Rig(
        says=tales, prints=slow_call, settings=settings, logprobs={"p#1": -3.0}, delay_s=0.01
    )


def test_one_in_a_tool_call_is_stopped_where_it_is() -> None:
    rig = crowded_rig()
    state, said = relieved(rig, 1.0)
    assert said == [True]
    [event] = rig.of(Crowded)
    assert (event.index, event.scores) == (1, {0: -1.0, 1: -3.0, 2: -1.0, 3: -1.0})
    dropped = state.trajectories[1]
    assert dropped.stop_reason is StopReason.PRUNED and dropped.error is None
    assert "p#1" in rig.engine.released
    [checked] = rig.of(Checked)
    assert 1 not in {*checked.kept, *checked.dropped} and len(checked.kept) == 2
    assert [d.detail for d in state.degradations] == [
        "the cache was full: 1 of 4 trajectories dropped before mark 40"
    ]


def test_one_at_the_mark_goes_at_once() -> None:
    tales = every([says(0, 30), CALL + says(1, 30), CALL + says(2, 30), CALL + says(3, 30)])
    rig = crowded_rig(prune={"mark": 10})
    rig.says, rig.logprobs = tales, {"p#0": -5.0}
    rig.delay_s = 0.0
    rig.settings = config(prune={"mark": 30}, vote={"stop": "off"})
    _, said = relieved(rig, 1.0)
    assert said == [True]
    assert [(e.index, e.scores[0]) for e in rig.of(Crowded)] == [(0, -5.0)]
    ends = [(e.stop_reason, e.num_sampled_tokens) for e in rig.of(Ended) if e.index == 0]
    assert ends == [(StopReason.MARK, 30), (StopReason.PRUNED, 30)]


def test_the_one_that_needs_the_room_may_be_the_one_that_goes() -> None:
    rig = crowded_rig()
    rig.prints = "0\n".__add__

    async def main() -> ProblemState:
        services = rig.services()
        engine, generate = rig.engine, rig.engine.generate

        async def full(trajectory_id, token_ids, params):  # type: ignore[no-untyped-def]
            if len(rig.requests) > 4 and trajectory_id == "p#1":
                assert not await services.pressure.relieve(trajectory_id), "it never comes to this"
            async with aclosing(generate(trajectory_id, token_ids, params)) as chunks:
                async for chunk in chunks:
                    yield chunk

        engine.generate = full
        state = ProblemState(problem(), budget(math.inf))
        await solve(state, services)
        return state

    state = run_virtual(main())
    assert [event.index for event in rig.of(Crowded)] == [1]
    assert state.trajectories[1].stop_reason is StopReason.PRUNED
    assert state.final_vote(rig.settings.vote).num_votes == 2


@pytest.mark.parametrize(
    "sections",
    [{"prune": {"scorer": "none"}}, {"prune": {"scorer": "random"}}, {"record": "full"}],
)
def test_where_nobody_is_chosen_by_score_nobody_goes(sections: dict[str, object]) -> None:
    rig = crowded_rig(prune=sections.get("prune", {}))  # type: ignore[arg-type]
    if "record" in sections:
        rig.settings = rig.settings.model_copy(update=sections)
    elif "scorer" in str(sections):
        rig.scorer = None
    state, said = relieved(rig, 1.0)
    assert said == [False] and not rig.of(Crowded)
    assert not state.degradations


def test_after_the_last_mark_nobody_goes() -> None:
    rig = crowded_rig(prune={"mark": 5})
    _, said = relieved(rig, 1.0)
    assert said == [False] and not rig.of(Crowded)


def test_beyond_the_first_mark_its_scores_decide() -> None:
    class Judge:
        name = "confidence"

        async def score(self, trajectories, deadline):  # type: ignore[no-untyped-def]
            return [float(trajectory.index) for trajectory in trajectories]

    rig = crowded_rig(prune={"stages": [[5, 3], [40, 2]], "mark": 5, "keep": 2})
    rig.scorer = Judge()
    relieved(rig, 1.0)
    assert [(e.index, e.scores) for e in rig.of(Crowded)] == [(1, {1: 1.0, 2: 2.0, 3: 3.0})]


def test_one_that_is_scored_at_its_end_is_waited_for_and_votes() -> None:
    """It ends before the mark; what it holds is free once the last check has scored it."""

    class LastCheck:
        name = "stop"

        async def score(self, trajectories, deadline):  # type: ignore[no-untyped-def]
            await asyncio.sleep(5.0)
            return [2.0]

    rig = crowded_rig(prune={"mark": 40})
    rig.says = every([says(0, 5), *(CALL + says(index, 30) for index in range(1, 4))])
    rig.logprobs = {"p#0": -5.0}
    rig.last_check = LastCheck()
    state, said = relieved(rig, 2.0)
    assert said == [True] and not rig.of(Crowded)
    assert state.trajectories[0].stop_reason is StopReason.ANSWERED
    assert state.trajectories[0].evidence.verified == 2.0
    assert {t.index for t in state.voters() if t.answer is not None} > {0}
