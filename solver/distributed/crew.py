"""Hands work to actors, and does again what was under way on one that is lost. Knows nothing of Ray.

A lost actor is one whose process or node ended. Where it can be started anew it is, and its problems begin
again from their seeds, so they come to the same tokens; where it cannot, the others do its work.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from solver.cli.progress import TokenRate
from solver.distributed.tasks import Batch, Task
from solver.distributed.worker import ActorLost, Hello
from solver.solving.concurrency import run_together

U = TypeVar("U")
R = TypeVar("R")

OPEN, STARTING = "open", "starting"
MOST_TRIES = 3  # of a unit whose actor is lost each time, and of an actor that gets nothing done


class Actor(Protocol):
    """A worker somewhere, as the driver sees it. Every call may raise `ActorLost`."""

    async def open(self) -> Hello:
        """Wait until it is open, also after it was lost."""
        ...

    def serve(self, task: Task[Any]) -> AsyncGenerator[Batch, None]:
        """Have it work on a task."""
        ...

    async def stop(self) -> None:
        """Have its tasks vote on what is there."""
        ...

    async def end(self) -> None:
        """End it, whatever it does."""
        ...


@dataclass(slots=True)
class Member:
    """An actor and what is shown of it. `state` is a word; `units` are the names of what it works on."""

    actor: Actor
    name: str
    rate: TokenRate
    state: str = STARTING
    node: str = ""
    units: list[str] = field(default_factory=list)
    restarts: int = 0
    in_vain: int = 0  # times it was lost since it last finished something

    @property
    def is_open(self) -> bool:
        """Whether it works, or could."""
        return self.state == OPEN

    @property
    def where(self) -> str:
        """Its name, with its node's once that is known."""
        return f"{self.name} on {self.node}" if self.node else self.name


class WhyUndone(StrEnum):
    """Why a unit is not done."""

    TRIES = f"{MOST_TRIES} actors were lost that worked on it"
    STOPPED = "interrupted: not started"
    NOBODY = "interrupted: no actor is left"
    LATE = "no time: not started"


class WorkList(Generic[U]):
    """Units that wait or are under way, longest first; what comes back is the next.

    Units of unknown cost keep their order, behind those that are known.
    """

    def __init__(self, units: Iterable[U], cost: Callable[[U], float | None]) -> None:
        self._waiting: list[tuple[float, int, U]] = []
        self._num = 0
        for number, unit in enumerate(units):
            known = cost(unit)
            heapq.heappush(self._waiting, (inf if known is None else -known, number, unit))
            self._num += 1
        self._open = self._num  # not done
        self._tries: dict[int, int] = {}
        self._changed = asyncio.Condition()
        self.closed = False

    @property
    def is_done(self) -> bool:
        """Whether everything is done."""
        return self._open == 0

    def left(self) -> list[U]:
        """What waits."""
        return [unit for _, _, unit in sorted(self._waiting, key=lambda one: one[:2])]

    async def take(self) -> tuple[int, U] | None:
        """The next unit and its number; None once all are done, or nothing is to begin any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self.is_done or self.closed)
            if self.is_done or self.closed:
                return None
            _, number, unit = heapq.heappop(self._waiting)
            return number, unit

    async def done(self) -> None:
        """A unit that was taken is done."""
        async with self._changed:
            self._open -= 1
            self._changed.notify_all()

    async def put_back(self, number: int, unit: U) -> bool:
        """A unit begins again, before all others; False if that was tried often enough."""
        async with self._changed:
            tries = self._tries[number] = self._tries.get(number, 1) + 1
            if tries > MOST_TRIES:
                return False
            heapq.heappush(self._waiting, (-inf, number, unit))
            self._changed.notify_all()
            return True

    async def close(self) -> None:
        """Have nothing more begin."""
        async with self._changed:
            self.closed = True
            self._changed.notify_all()


class Crew:
    """The actors of a run. `say` is told what happens to them, in one line each."""

    def __init__(
        self, actors: Sequence[Actor], say: Callable[[str], None], now: Callable[[], float]
    ) -> None:
        """`now` reads the driver's clock."""
        self.members = [
            Member(actor, f"actor {number}", TokenRate(now()))
            for number, actor in enumerate(actors, 1)
        ]
        self._say = say
        self._opening: dict[int, asyncio.Task[Hello | None]] = {}

    @property
    def num_working(self) -> int:
        """How many work or soon will, at least 1: so many share the time out among them."""
        return max(1, sum(member.state in (OPEN, STARTING) for member in self.members))

    async def first(self) -> Hello:
        """Wait until one of them is open; the others go on opening. Raises `ActorLost` if none can be."""
        for place, member in enumerate(self.members):
            self._opening[place] = asyncio.ensure_future(self._open(member))
        waiting = set(self._opening.values())
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (hello := task.result()) is not None:
                        return hello
        except asyncio.CancelledError:
            await self.close()
            raise
        reasons = "; ".join(dict.fromkeys(member.state for member in self.members))
        raise ActorLost(f"no actor can be used: {reasons}", for_good=True)

    async def everyone(self) -> None:
        """Wait until those that `first` left opening are open, or cannot be."""
        await asyncio.gather(*self._opening.values())

    async def work(
        self,
        work: WorkList[U],
        serve: Callable[[U, Member], Any],
        *,
        at_once: int,
        name: Callable[[U], str],
        on_undone: Callable[[U, WhyUndone], None],
        stopping: asyncio.Event,
        deadline: float = inf,
    ) -> None:
        """Have every unit served: `await serve(unit, member)`, `at_once` by each actor at a time.

        A unit whose actor is lost is served again by the next that is free. `on_undone` gets those that
        nobody can serve, those that are not done at `deadline` (loop seconds), and after `stopping` those
        that had not begun. Raises what `serve` raises, but for `ActorLost`.
        """
        quit_now = asyncio.Event()

        async def take_turns(member: Member) -> None:
            while (taken := await work.take()) is not None:
                number, unit = taken
                member.units.append(name(unit))
                try:
                    await serve(unit, member)
                except BaseException as error:
                    lost = isinstance(error, ActorLost | asyncio.CancelledError)
                    if lost and not await work.put_back(number, unit):
                        member.in_vain = 0  # not its fault
                        on_undone(unit, WhyUndone.TRIES)
                        await work.done()
                    raise
                finally:
                    member.units.remove(name(unit))
                    end_if_idle()
                member.in_vain = 0
                await work.done()

        def end_if_idle() -> None:
            """Wait for nobody who is still starting, once nothing more is to begin."""
            if work.closed and not any(member.units for member in self.members):
                quit_now.set()

        async def keep_working(place: int, member: Member) -> None:
            opening = self._opening.pop(place, None)
            hello = await (opening or self._open(member))
            while hello is not None:
                try:
                    async with asyncio.TaskGroup() as takers:
                        for _ in range(at_once):
                            takers.create_task(take_turns(member))
                    return
                except* ActorLost as group:
                    self._lost(member, group.exceptions[0])
                if work.is_done:
                    return
                hello = await self._open(member)

        async def end_on_stop() -> None:
            await stopping.wait()
            await work.close()
            calls = [one.actor.stop() for one in self.members if one.is_open]
            await asyncio.gather(*calls, return_exceptions=True)
            end_if_idle()

        stopper = asyncio.ensure_future(end_on_stop())
        try:
            await run_together(
                [keep_working(place, member) for place, member in enumerate(self.members)],
                deadline=deadline,
                stopping=quit_now,  # only then: those under way still get their answers
                until=lambda: work.is_done,
            )
        finally:
            stopper.cancel()
            await asyncio.gather(stopper, return_exceptions=True)
        why = WhyUndone.NOBODY
        if stopping.is_set():
            why = WhyUndone.STOPPED
        elif asyncio.get_running_loop().time() >= deadline:
            why = WhyUndone.LATE
        for unit in work.left():
            on_undone(unit, why)

    async def close(self) -> None:
        """End every actor."""
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        ends = (member.actor.end() for member in self.members)
        await asyncio.gather(*ends, return_exceptions=True)

    async def _open(self, member: Member) -> Hello | None:
        """Wait until an actor is open; None if it cannot be, or must not be used."""
        while member.in_vain < MOST_TRIES:
            try:
                hello = await member.actor.open()
            except ActorLost as error:
                self._lost(member, error)
                if error.for_good:
                    break
                continue
            member.node = hello.node
            if hello.refusal:
                member.state = f"{hello.node}: {hello.refusal}"
                self._say(f"{member.where} is not used: {hello.refusal}")
                await member.actor.end()
                return None
            member.state = OPEN
            for line in hello.said:
                self._say(f"{member.where}: {line}")
            return hello
        self._say(f"{member.where} is given up")
        return None

    def _lost(self, member: Member, error: BaseException) -> None:
        member.restarts += 1
        member.in_vain += 1
        member.state = f"lost: {error}"
        self._say(f"{member.where} was lost, what it worked on begins again: {error}")
