"""The room of a session: parts of one engine, in the order of asking."""

from __future__ import annotations

import asyncio

from solver.solving.room import Room
from solver.types import ProblemBudget


def budget(at_once: int, launch: int | None = 1) -> ProblemBudget:
    return ProblemBudget(1.0, 0.0, 1.0, launch=launch, at_once=at_once)


async def test_each_takes_the_part_it_counts_on_in_the_order_of_asking() -> None:
    room, inside = Room(), []
    leave = [asyncio.Event() for _ in range(5)]

    async def one(number: int, at_once: int) -> None:
        async with room.taken(lambda: budget(at_once)):
            inside.append(number)
            await leave[number].wait()
        inside.remove(number)

    wanted = [3, 3, 2, 3, 3]  # a half does not fit beside two thirds, and nobody overtakes it
    tasks = [asyncio.create_task(one(n, at_once)) for n, at_once in enumerate(wanted)]

    async def after(*who: int) -> list[int]:
        for number in who:
            leave[number].set()
        for _ in range(20):
            await asyncio.sleep(0)
        return sorted(inside)

    assert await after() == [0, 1]
    assert await after(0) == [1, 2]
    assert await after(1) == [2, 3]
    assert await after(2) == [3, 4]
    assert await after(3, 4) == []
    await asyncio.gather(*tasks)


async def test_the_budget_is_asked_for_anew_when_somebody_has_left() -> None:
    room, asked = Room(), [budget(1), budget(1, launch=None)]
    async with room.taken(lambda: budget(2)):
        waiting = asyncio.create_task(enter(room, asked))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done() and len(asked) == 1
    assert (await waiting).launch is None, "meanwhile there was no time left, which needs no room"


async def test_a_failure_inside_gives_the_room_back() -> None:
    room = Room()
    for _ in range(3):
        try:
            async with room.taken(lambda: budget(1)):
                raise RuntimeError
        except RuntimeError:
            continue
    async with asyncio.timeout(1.0), room.taken(lambda: budget(1)):
        pass


async def enter(room: Room, asked: list[ProblemBudget]) -> ProblemBudget:
    async with room.taken(lambda: asked.pop(0)) as found:
        return found
