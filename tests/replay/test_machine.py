"""The simulated clock: alone, in company, with tools, at a deadline; and fitted to what was recorded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.result import ExecutionResult, ExecutionStatus
from sandbox.scripted import Step
from solver.journal.events import Event, Solved
from solver.replay.fit import fit_speeds
from solver.replay.machine import Machine, Runner
from solver.replay.policy import Policy
from solver.replay.problem import Leg
from solver.replay.problem import Path as Route
from solver.replay.speeds import Speeds
from solver.replay.sweep import Replay
from solver.types import Ballot
from tests.replay.runs import full, recorded
from tests.support.rig import Rig, config, every, problem, says

PLAIN = Speeds(step_s=0.1, token_s=0.0, encoded_s=0.0, tool_s=0.0, crowding=0.0)
FOR_EVER = float("inf")


def route(index: int, *legs: Leg) -> Route:
    tokens = sum(leg.tokens for leg in legs)
    return Route(index, legs, Ballot(index, 1, tokens), complete=True, right=True)


def runner(index: int, *legs: Leg, goal: int | None = None, encoded: int = 0) -> Runner:
    return Runner(route(index, *legs), encoded, goal)


def test_one_alone() -> None:
    machine = Machine(PLAIN, FOR_EVER)
    one = runner(0, Leg(0, 5, 2.0), Leg(0, 3, None))
    assert machine.run([one])
    assert machine.now == pytest.approx(0.5 + 2.0 + 0.3)
    assert (one.finished, one.sampled) == (True, 8)


def test_company_makes_steps_longer() -> None:
    machine = Machine(replace(PLAIN, token_s=0.05), FOR_EVER)
    machine.run([runner(0, Leg(0, 10, None)), runner(1, Leg(0, 20, None))])
    assert machine.now == pytest.approx(10 * (0.1 + 2 * 0.05) + 10 * (0.1 + 0.05))


def test_encoding_holds_everybody_up() -> None:
    speeds = replace(PLAIN, encoded_s=0.01)
    machine = Machine(speeds, FOR_EVER)
    machine.run([runner(0, Leg(0, 10, None), encoded=50), runner(1, Leg(0, 10, None))])
    assert machine.now == pytest.approx(0.5 + 1.0)


@pytest.mark.parametrize(("crowding", "seconds"), [(0.0, 1.0), (1.0, 2.0), (0.5, 2**0.5)])
def test_tools_share_what_there_is(crowding: float, seconds: float) -> None:
    machine = Machine(replace(PLAIN, crowding=crowding), FOR_EVER)
    machine.run([runner(i, Leg(0, 1, 1.0), Leg(0, 1, None)) for i in range(2)])
    assert machine.now == pytest.approx(0.1 + seconds + 0.1)


def test_tools_slow_the_engine() -> None:
    machine = Machine(replace(PLAIN, tool_s=0.5), FOR_EVER)
    machine.run([runner(0, Leg(0, 1, 100.0), Leg(0, 1, None)), runner(1, Leg(0, 11, None))])
    # one token together, ten more at half the speed beside the call
    assert machine.now == pytest.approx(0.1 + 100.0 + 0.1)
    machine = Machine(replace(PLAIN, tool_s=0.5), FOR_EVER)
    slow = runner(1, Leg(0, 11, None))
    machine.run([runner(0, Leg(0, 1, 100.0)), slow], until=lambda: slow.finished)
    assert machine.now == pytest.approx(0.1 + 10 * 0.2)


def test_they_wait_at_the_mark_and_go_on() -> None:
    machine = Machine(PLAIN, FOR_EVER)
    one = runner(0, Leg(0, 5, 1.0), Leg(0, 5, None), goal=5)
    two = runner(1, Leg(0, 8, None), goal=5)
    assert machine.run([one, two])
    assert machine.now == pytest.approx(0.5)  # the call at the mark is not executed yet
    assert not one.finished and not two.finished
    one.goal = two.goal = None
    machine.wait(0.25)
    assert machine.run([one, two])
    assert machine.now == pytest.approx(0.75 + 1.0 + 0.5)


def test_the_deadline_cuts() -> None:
    machine = Machine(PLAIN, 0.55)
    one, two = runner(0, Leg(0, 9, None)), runner(1, Leg(0, 2, None))
    assert not machine.run([one, two])
    assert machine.now == pytest.approx(0.55)
    assert (one.finished, one.sampled, two.finished) == (False, 5, True)
    assert not machine.run([one])  # nothing happens after it
    assert one.sampled == 5
    machine.wait(1.0)
    assert machine.now == pytest.approx(0.55)


LEGS = st.lists(
    st.builds(Leg, st.just(0), st.integers(1, 20), st.floats(0, 3)), min_size=1, max_size=3
)


@settings(max_examples=60)
@given(st.lists(LEGS, min_size=1, max_size=6), st.floats(0, 1))
def test_company_never_helps_and_nothing_is_lost(legs: list[list[Leg]], token_s: float) -> None:
    def took(which: list[list[Leg]], speeds: Speeds) -> tuple[float, list[Runner]]:
        machine = Machine(speeds, FOR_EVER)
        runners = [
            runner(i, *path[:-1], replace(path[-1], work_s=None)) for i, path in enumerate(which)
        ]
        assert machine.run(runners)
        return machine.now, runners

    alone = [took([path], PLAIN)[0] for path in legs]
    together, runners = took(legs, PLAIN)
    assert together == pytest.approx(max(alone))  # nobody disturbs anybody
    assert all(r.finished and r.sampled == r.path.ballot.num_sampled_tokens for r in runners)
    crowded = replace(PLAIN, token_s=token_s, crowding=1.0)
    assert took(legs, crowded)[0] >= together - 1e-9


def slow_tools(code: str) -> Step:
    return Step(ExecutionResult(status=ExecutionStatus.OK, stdout="1\n"), delay_s=0.7)


class SlowDisk(list[Event]):
    """Events whose answers take 0.2 s to write."""

    def append(self, event: Event) -> None:
        super().append(event)
        if isinstance(event, Solved):
            asyncio.get_running_loop().virtual_now += 0.2  # type: ignore[attr-defined]


def test_what_writing_takes_is_kept_for_the_end_in_a_replay_too(tmp_path: Path) -> None:
    names = ("p", "q", "r")
    tales = {who: text for name in names for who, text in every([says(1, 20)] * 4, name).items()}
    rig = Rig(says=tales, settings=full(), events=SlowDisk())
    recording = recorded(tmp_path / "run", rig, [problem(name, answer=1) for name in names])
    speeds = fit_speeds([recording])
    assert speeds.write_s == pytest.approx(0.2)
    quick = replace(speeds, write_s=0.0)
    policy = replace(Policy.of(recording.config), limit_s=2.0)

    def voted(speeds: Speeds) -> int:
        outcomes = Replay([recording], speeds).session(0, policy, 0)
        return sum(outcome.vote.num_votes > 0 for outcome in outcomes)

    assert voted(speeds) < voted(quick)


def test_the_clock_is_fitted_to_the_journal(tmp_path: Path) -> None:
    """The scripted machine: a constant time a token, whoever is there, and tools that never wait."""
    call = "```python\nprint(1)\n```\n"
    tales = every([call * (i % 3) + says(i % 2, 12 + 7 * i) for i in range(8)])
    prune = {"launch": 8, "keep": 4, "mark": 10, "scorer": "none"}
    rig = Rig(says=tales, prints=slow_tools, settings=full(prune=prune), delay_s=0.02)
    recording = recorded(tmp_path / "run", rig, [problem(answer=1)])
    speeds = fit_speeds([recording])
    assert speeds.step(1, 0) == pytest.approx(0.02, rel=0.1)
    assert speeds.step(8, 0) == pytest.approx(0.02, rel=0.1)
    assert speeds.crowding < 0.1
    replay = Replay([recording])
    off = Policy.of(recording.config)
    off = replace(off, vote=off.vote.model_copy(update={"stop": "off"}))
    [outcome] = replay.session(0, off, 0)
    solved = recording.problems[0].solved
    assert solved is not None
    assert outcome.seconds == pytest.approx(solved.elapsed_s, rel=0.03)
    assert outcome.tokens == solved.sampled_tokens
    # and another policy, really run
    prune = {"launch": 4, "keep": 2, "mark": 20, "scorer": "random"}
    settings = config(prune=prune)
    other = Rig(says=tales, prints=slow_tools, settings=settings, delay_s=0.02, scorer=None)
    real = recorded(tmp_path / "other", other, [problem(answer=1)])
    [outcome] = replay.session(0, Policy.of(real.config), 0)
    solved = real.problems[0].solved
    assert solved is not None
    assert outcome.seconds == pytest.approx(solved.elapsed_s, rel=0.03)
    assert outcome.vote.counts == solved.votes
