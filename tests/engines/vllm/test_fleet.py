"""Several servers: who goes where, who stays, and who moves when one is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from solver.engines.vllm.waiting import WaitCancelled, Waiter
from tests.engines.vllm.conftest import greedy, until
from tests.support.fake_vllm import CONTEXT, FakeServer, Fault, continuation, score


def prompt(number: int) -> list[int]:
    return [number, 9, 9, 9]


async def test_new_trajectories_go_where_the_fewest_are(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(), FakeServer(), FakeServer())
    await asyncio.gather(*(made.say(str(n), prompt(n), greedy(5)) for n in range(24)))
    assert [len(server.bodies) for server in made.servers] == [8, 8, 8]


async def test_a_trajectory_stays_until_it_is_released(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(), FakeServer())
    for _ in range(3):
        for name in "abc":
            await made.say(name, prompt(1), greedy(5))
    await made.engine.stop_logits([(name, prompt(1)) for name in "abc"])
    assert [len(server.bodies) for server in made.servers] == [8, 4]
    await made.engine.release("a")
    await made.engine.release("c")
    await made.say("d", prompt(1), greedy(5))
    assert len(made.servers[0].bodies) == 9, "the released ones no longer count"


async def test_a_score_finds_its_prefix_cached(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(), FakeServer())
    names = [str(n) for n in range(6)]
    said = await asyncio.gather(*(made.say(n, prompt(int(n)), greedy(20)) for n in names))
    prefixes = [(n, prompt(int(n)) + s.ids) for n, s in zip(names, said, strict=True)]
    logits = await made.engine.stop_logits(prefixes)
    assert [round(z, 9) for z in logits] == [round(score(ids), 9) for _, ids in prefixes]
    assert made.engine.stats.scored == 6 * (24 + 2)
    assert made.engine.stats.scored_cached == 6 * 23, "all but the last sampled id"


async def test_trajectories_of_a_lost_server_go_on_elsewhere(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.005), FakeServer(delay_s=0.005), most=0)
    jobs = [made.say(str(n), prompt(n), greedy(40)) for n in range(8)]
    tasks = [asyncio.create_task(job) for job in jobs]
    await until(lambda: made.engine.stats.sampled >= 80)
    before = len(made.servers[1].bodies)
    await made.servers[0].crash()
    for number, task in enumerate(tasks):
        assert (await task).ids == continuation(prompt(number), 40)
    moved = made.servers[1].bodies[before:]
    assert len(moved) == 4
    assert all(len(body["prompt"]) > 4 for body in moved), "from the ids they had"
    assert "4 requests go on elsewhere" in made.incidents[0]
    assert "given up: it crashed too often" in made.incidents[1]
    await made.say("0", prompt(0), greedy(5))
    assert len(made.servers[1].bodies) == before + 5


async def test_waiting_trajectories_take_the_first_that_is_back(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(), FakeServer())
    made.hosts[0].recover_s = 30.0
    for server in made.servers:
        await server.crash()
    said = await asyncio.gather(*(made.say(str(n), prompt(n), greedy(5)) for n in range(4)))
    assert [s.ids for s in said] == [continuation(prompt(n), 5) for n in range(4)]
    assert Counter(len(server.bodies) for server in made.servers) == {0: 1, 4: 1}


async def test_a_server_that_comes_back_is_used_again(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(), FakeServer())
    await made.say("a", prompt(1), greedy(5))
    made.servers[0].faults.append(Fault("crash"))
    await made.say("a", prompt(2), greedy(5))
    assert len(made.servers[1].bodies) == 1
    await until(lambda: "is back" in made.incidents[-1])
    await asyncio.gather(*(made.say(str(n), prompt(n), greedy(5)) for n in range(4)))
    assert len(made.servers[0].bodies) == 4


async def test_the_smallest_cache_cuts_the_context(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(capacity=500), FakeServer(capacity=300), FakeServer())
    assert made.engine.capabilities.context_length == 300 - 64
    assert (await rig(FakeServer())).engine.capabilities.context_length == CONTEXT


async def test_hosts_hear_of_tokens(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(), FakeServer())
    await made.say("a", prompt(1), greedy(5))
    assert made.hosts[0].tokens >= 1
    assert made.hosts[1].tokens == 0


async def test_a_loss_is_told_once_and_to_everybody_there(rig: Callable[..., Any]) -> None:
    made = await rig(recover_s=0.1)
    fleet = made.engine._fleet
    requests = [Waiter() for _ in range(3)]
    for request in requests:
        server = await fleet.find(None, request)
    await made.server.crash()
    now = asyncio.get_running_loop().time()
    checks = [fleet.check(server, 0, now, "reset") for _ in range(5)]
    assert await asyncio.gather(*checks) == [False] * 5
    assert "3 requests go on when it is back" in made.incidents[0]
    for request in requests:
        with pytest.raises(WaitCancelled):
            async with request.within(None):
                pass
    await fleet.find(None, Waiter())
    assert server.generation == 1
    await made.server.crash()
    assert not await fleet.check(server, 0, now, "a late report of the first loss")
    assert made.hosts[0].recoveries == 1
