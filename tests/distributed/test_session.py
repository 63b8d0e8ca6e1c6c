"""A session on actors: the answers of one process, whatever is lost. Scripts, and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from solver.config import SolverConfig
from solver.distributed.crew import Crew
from solver.distributed.node import installation
from solver.distributed.session import Desk, run_session
from solver.distributed.worker import ActorLost
from solver.journal.events import EVENTS, Event, ProblemStarted, Sampled, Solved
from solver.journal.history import RunHistory
from solver.solving import session
from solver.types import DegradationKind, Problem
from tests.support import LoopClock, run_virtual
from tests.support.actors import ScriptedActor
from tests.support.rig import Rig, config, every, says

NAMES = tuple("abcde")
TALES = {
    key: text
    for place, name in enumerate(NAMES)
    for key, text in every(
        ["." * (20 + place) + says(7), "." * 24 + says(7), "." * 30 + says(3), says(place)], name
    ).items()
}
PROBLEMS = [Problem(name, "1+1?") for name in NAMES]
SETTINGS = config(vote={"stop": "off"})


def rig(**more: object) -> Rig:
    return Rig(says=TALES, settings=SETTINGS, **{"delay_s": 0.05, **more})  # type: ignore[arg-type]


def alone() -> list[tuple[str, int, dict[int, int], int]]:
    """The answers of one process."""

    async def work() -> list[Solved]:
        return await session.run_session(PROBLEMS, rig().services(), solved={})

    return [shown(answer) for answer in run_virtual(work())]


def shown(answer: Solved) -> tuple[str, int, dict[int, int], int]:
    return answer.problem_id, answer.answer, answer.votes, answer.sampled_tokens


@dataclass
class Driver:
    """Runs a session on actors; what it recorded and said is kept."""

    actors: Sequence[ScriptedActor]
    settings: SolverConfig = SETTINGS
    problems: Sequence[Problem] = tuple(PROBLEMS)
    stop_after: float | None = None
    events: list[Event] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    history: RunHistory = field(default_factory=RunHistory)
    sampled: int = 0
    elapsed: float = 0.0

    def run(self, solved: dict[str, Solved] | None = None) -> list[Solved]:
        return run_virtual(self._work(solved or {}))

    async def _work(self, solved: dict[str, Solved]) -> list[Solved]:
        clock = LoopClock()
        stopping = asyncio.Event()
        crew = Crew(self.actors, self.said.append, clock.now)
        desk = Desk(
            self.settings, clock, clock.now(), self.history, self._record, self._append,
            self._on_sampled, stopping,
        )  # fmt: skip
        if self.stop_after is not None:
            asyncio.get_running_loop().call_later(self.stop_after, stopping.set)
        await crew.first()
        try:
            return await run_session(self.problems, crew, desk, solved=solved)
        finally:
            self.elapsed = desk.elapsed()
            await crew.close()

    def _record(self, event: Event) -> None:
        self.events.append(event)
        self.history.apply(event)

    def _append(self, lines: bytes, events: Sequence[Event]) -> None:
        assert [EVENTS.validate_json(line) for line in lines.splitlines()] == list(events)
        for event in events:
            self._record(event)

    def _on_sampled(self, num_tokens: int) -> None:
        self.sampled += num_tokens

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.mark.parametrize("num", [1, 2, 4])
def test_the_answers_are_those_of_one_process(num: int) -> None:
    actors = [ScriptedActor(rig()) for _ in range(num)]
    driver = Driver(actors)
    assert [shown(answer) for answer in driver.run()] == alone()
    assert sorted(name for actor in actors for name in actor.served) == sorted(NAMES)
    assert all(actor.served for actor in actors) and all(actor.ended for actor in actors)
    sampled = sum(len(event.token_ids) for event in driver.of(Sampled))
    assert driver.sampled == sampled > 0
    assert all(0 <= event.t <= driver.elapsed for event in driver.events)


def test_more_actors_take_less_time() -> None:
    times = []
    for num in (1, 2):
        driver = Driver([ScriptedActor(rig()) for _ in range(num)])
        driver.run()
        times.append(driver.elapsed)
    assert times[1] < 0.7 * times[0]


def test_what_a_lost_actor_worked_on_begins_again() -> None:
    actors = [ScriptedActor(rig(), lost_after=[3]), ScriptedActor(rig())]
    driver = Driver(actors)
    assert [shown(answer) for answer in driver.run()] == alone()
    assert any("was lost, what it worked on begins again" in line for line in driver.said)
    begun = [event.problem_id for event in driver.of(ProblemStarted)]
    assert len(begun) == len(NAMES) + 1
    counted = sum(
        trajectory.num_tokens
        for problem in driver.history.problems.values()
        for trajectory in problem.trajectories.values()
    )
    assert counted == sum(answer[3] for answer in alone()), "no token is counted twice"


def test_an_actor_that_cannot_be_started_again_leaves_its_work_to_the_others() -> None:
    actors = [ScriptedActor(rig(), lost_after=[3], starts=1), ScriptedActor(rig())]
    driver = Driver(actors)
    assert [shown(answer) for answer in driver.run()] == alone()
    assert any("actor 1" in line and "is given up" in line for line in driver.said)


def test_without_any_actor_left_the_rest_is_for_a_later_run() -> None:
    driver = Driver([ScriptedActor(rig(), lost_after=[1_000], starts=1)])
    first = driver.run()
    driver = Driver([ScriptedActor(rig(), lost_after=[8], starts=1)])
    answers = driver.run()
    recorded = {event.problem_id: event for event in driver.of(Solved)}
    assert 0 < len(recorded) < len(NAMES)
    for answer in answers:
        if answer.problem_id not in recorded:
            assert DegradationKind.INTERRUPTED in {one.kind for one in answer.degradations}
    later = Driver([ScriptedActor(rig())])
    assert [shown(a) for a in later.run(recorded)] == [shown(a) for a in first]


def test_a_problem_that_takes_its_actors_with_it_is_given_up() -> None:
    driver = Driver([ScriptedActor(rig(), lost_after=[2, 2, 2])], problems=PROBLEMS[:2])
    answers = driver.run()
    kinds = [{one.kind for one in answer.degradations} for answer in answers]
    assert DegradationKind.FAILED in kinds[0]
    assert len(driver.of(Solved)) == 2, "it is not tried for ever, and not in a later run"


def test_a_stop_lets_those_under_way_vote() -> None:
    driver = Driver([ScriptedActor(rig()), ScriptedActor(rig(), slow_s=1e6)], stop_after=2.0)
    answers = driver.run()
    assert driver.elapsed < 60, "nobody waits for the actor that starts"
    assert all(
        DegradationKind.INTERRUPTED in {one.kind for one in answer.degradations}
        for answer in answers
        if answer.problem_id not in {event.problem_id for event in driver.of(Solved)}
    )
    assert len(driver.of(Solved)) < len(NAMES)


def test_a_time_limit_is_shared_among_the_actors() -> None:
    limited = config(vote={"stop": "off"}, budget={"time_limit_s": 30.0, "closing_s": 1.0})
    allotted = []
    for num in (1, 2):
        driver = Driver(
            [ScriptedActor(replace(rig(), settings=limited)) for _ in range(num)], settings=limited
        )
        assert len(driver.run()) == len(NAMES)
        assert driver.elapsed <= 30
        first = driver.of(ProblemStarted)[0]
        assert isinstance(first, ProblemStarted) and first.allotted_s is not None
        allotted.append(first.allotted_s)
    assert allotted == pytest.approx([14.5, 20.3])


def test_at_the_time_limit_a_silent_actor_is_answered_for() -> None:
    limited = config(
        vote={"stop": "off"},
        budget={"time_limit_s": 20.0, "closing_s": 1.0, "problems_at_once": 1},
    )

    class Silent(ScriptedActor):
        async def serve(self, task):  # type: ignore[no-untyped-def]
            async for batch in super().serve(task):
                yield batch
                if self._batches > 4:
                    await asyncio.sleep(1e6)

    driver = Driver([Silent(replace(rig(), settings=limited))], settings=limited)
    answers = driver.run()
    assert driver.elapsed <= 21
    assert len(answers) == len(NAMES)
    assert all(
        DegradationKind.OUT_OF_TIME in {one.kind for one in answer.degradations}
        for answer in answers
    )
    assert answers[0].num_votes > 0, "who had ended by then votes"


def test_the_longest_are_handed_out_first() -> None:
    costs = {"a": "1", "b": "30", "d": "2.5"}
    problems = [replace(p, tags={"cost": costs[p.id]} if p.id in costs else {}) for p in PROBLEMS]
    actor = ScriptedActor(rig())
    answers = Driver([actor], problems=problems).run()
    assert actor.served == ["b", "d", "a", "c", "e"]
    assert [answer.problem_id for answer in answers] == list(NAMES)


def test_an_unfit_machine_is_refused_by_name() -> None:
    other = replace(installation(SolverConfig()), version="9.9")
    unfit = ScriptedActor(rig(), expected=other)
    driver = Driver([unfit, ScriptedActor(rig())])
    assert [shown(answer) for answer in driver.run()] == alone()
    assert unfit.served == []
    (said,) = (line for line in driver.said if "is not used" in line)
    assert "actor 1 on " in said and "the driver's is 9.9" in said


def test_a_crew_of_unfit_machines_is_refused() -> None:
    other = replace(installation(SolverConfig()), model="0" * 64)
    with pytest.raises(ActorLost, match=r"no actor can be used: .*its model is .*000000000000"):
        Driver([ScriptedActor(rig(), expected=other)]).run()
