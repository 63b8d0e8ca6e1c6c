"""Scheduling, step by step and without asyncio: who runs, who waits, what is kept and counted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from solver.engines import core as core_module
from solver.engines.cache import Cache, common_prefix
from solver.engines.core import Core
from solver.engines.loading import cache_shape
from solver.engines.packed import ATTENTION
from solver.engines.requests import FULL, Request, Want
from solver.types import Chunk, FinishReason, SamplingParams
from tests.engines.helpers import CONTEXT, greedy, params, prompt


class Driver:
    """A core and what it said, by trajectory."""

    def __init__(self, model: Any, bound: int = 1 << 16) -> None:
        self.bound = bound
        self.core = Core(model, Cache(cache_shape(model), bound), min(CONTEXT, bound))
        self.said: dict[str, list[int]] = {}
        self.first: dict[str, Chunk] = {}
        self.reasons: dict[str, FinishReason] = {}

    def request(self, name: str, ids: list[int], how: SamplingParams) -> Request:
        self.said[name] = []
        self.reasons.pop(name, None)
        self.first.pop(name, None)
        return Request(name, list(ids), Want.TOKENS, how)

    def add(self, name: str, ids: list[int], how: SamplingParams) -> Request:
        request = self.request(name, ids, how)
        self.core.add(request)
        return request

    def turn(self, *commands: Any) -> None:
        for request, answer in self.core.turn(commands):
            assert isinstance(answer, Chunk), answer
            name = request.trajectory_id
            self.said[name] += answer.token_ids
            self.first.setdefault(name, answer)
            if answer.finish_reason is not None:
                self.reasons[name] = answer.finish_reason
        stats = self.core.stats
        assert stats.arena_cells + stats.paused_tokens <= self.bound
        cache = self.core.cache
        assert [row.slot for row in cache.live] == list(range(len(cache.live)))
        assert cache.paused_tokens == sum(len(pause.ids) for pause in cache.pauses.values())

    def finish(self) -> None:
        while self.core.busy:
            self.turn()

    def run(self, name: str, ids: list[int], how: SamplingParams) -> list[int]:
        self.add(name, ids, how)
        self.finish()
        return self.said[name]


@pytest.fixture(autouse=True)
def _our_attention(llama: Any) -> Iterator[None]:
    llama.set_attn_implementation(ATTENTION)
    yield
    llama.set_attn_implementation("sdpa")


def test_common_prefix() -> None:
    draw = random.Random(0)
    for _ in range(300):
        one = [draw.randrange(2) for _ in range(draw.randrange(12))]
        other = [draw.randrange(2) for _ in range(draw.randrange(12))]
        expected = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
            min(len(one), len(other)),
        )
        assert common_prefix(one, other) == expected


def test_cancelling_frees_the_row_at_the_next_step(llama: Any) -> None:
    driver = Driver(llama)
    requests = [driver.add(str(n), prompt(9, n), greedy(50)) for n in range(3)]
    driver.turn()
    driver.turn()
    assert driver.core.stats.decoding_rows == 3
    driver.turn(partial(driver.core.cancel, requests[0]))
    assert (driver.core.stats.decoding_rows, driver.core.stats.paused_rows) == (2, 1)
    assert [len(ids) for ids in driver.said.values()] == [2, 3, 3]
    waiting = driver.request("late", prompt(5, 9), greedy(5))
    driver.turn(partial(driver.core.add, waiting), partial(driver.core.cancel, waiting))
    assert driver.core.stats.running_rows == 2


def test_a_long_prefill_does_not_stop_the_others(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_module, "PREFILL_TOKENS", 16)
    driver = Driver(llama)
    driver.add("short", prompt(10), greedy(40))
    driver.turn()
    driver.add("long", prompt(160, 1), greedy(5))
    for step in range(1, 10):
        driver.turn()
        assert (len(driver.said["short"]), driver.said["long"]) == (1 + step, [])
    driver.turn()
    assert len(driver.said["long"]) == 1


def test_a_shared_prompt_is_copied_from_the_row_that_encodes_it(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_module, "PREFILL_TOKENS", 16)
    alone = Driver(llama).run("alone", [*prompt(70), 5], greedy(9))
    driver = Driver(llama)
    for n in range(4):
        driver.add(str(n), [*prompt(70), 5 + n], greedy(9))
    driver.add("other", prompt(12, 1), greedy(9))
    driver.turn()
    assert driver.core.stats.running_rows == 2  # a leader and the one that shares nothing
    driver.finish()
    assert driver.core.stats.prefilled == 71 + 3 + 12
    assert [driver.first[str(n)].reused_tokens for n in range(4)] == [0, 70, 70, 70]
    assert driver.said["0"] == alone


def test_a_leader_that_leaves_is_replaced(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "PREFILL_TOKENS", 16)
    driver = Driver(llama)
    leader = driver.add("0", prompt(70), greedy(9))
    for n in (1, 2):
        driver.add(str(n), prompt(70), greedy(9))
    driver.turn()
    driver.turn(partial(driver.core.cancel, leader))
    driver.finish()
    # its 16 encoded ids were kept as a pause and copied; the next one encoded the rest
    assert [driver.first[n].reused_tokens for n in "12"] == [16, 69]
    assert driver.said["1"] == driver.said["2"]


def test_admission_waits_first_come_first_served(llama: Any) -> None:
    driver = Driver(llama, bound=128)
    for n in range(4):
        driver.add(str(n), prompt(20, n), greedy(30 if n else 10))
    driver.turn()
    stats = driver.core.stats
    assert (stats.running_rows, stats.waiting_requests) == (2, 2)  # two could grow to 64 cells
    driver.finish()
    assert [len(ids) for ids in driver.said.values()] == [10, 30, 30, 30]
    assert driver.core.stats.evicted_pauses == 2


def test_the_oldest_pause_goes_first_and_comes_back_the_same(llama: Any) -> None:
    names, half = "abcd", {}
    expected = {n: Driver(llama).run(n, prompt(20, ord(n)), params(40, 3)) for n in names}
    driver = Driver(llama, bound=160)
    for name in names:
        half[name] = list(driver.run(name, prompt(20, ord(name)), params(20, 3)))
    assert list(driver.core.cache.pauses) == ["b", "c", "d"]
    assert driver.core.stats.evicted_pauses == 1
    for name in ("d", "a"):
        rest = driver.run(name, prompt(20, ord(name)) + half[name], params(20, 3))
        assert half[name] + rest == expected[name]
    assert driver.first["d"].reused_tokens == 39
    assert driver.first["a"].reused_tokens == 0
    # "a" had 39 ids in the cache; its 40th, the last sampled, was never there
    assert driver.core.stats.re_encoded == 39


def asking(llama: Any) -> Driver:
    """Two pauses of 33 ids in a cache of 160: a third row fits, and a scratch row behind it does not."""
    driver = Driver(llama, bound=160)
    for name in "ab":
        driver.run(name, prompt(30, seed=ord(name)), greedy(4))
    driver.core.asks = True
    return driver


def test_who_wants_to_be_asked_is_asked_before_a_pause_is_lost(llama: Any) -> None:
    driver = asking(llama)
    request = driver.add("c", prompt(30, seed=3), greedy(4))
    said = driver.core.turn([])
    assert [(one.trajectory_id, answer) for one, answer in said] == [("c", FULL)]
    assert driver.core.turn([]) == [] and not driver.core.busy, "it waits, and is asked once"
    assert set(driver.core.cache.pauses) == {"a", "b"}
    release = partial(driver.core.cache.release, "a")
    driver.turn(release, partial(driver.core.answered, request, False))
    driver.finish()
    assert len(driver.said["c"]) == 4 and set(driver.core.cache.pauses) == {"b", "c"}
    assert driver.core.stats.evicted_pauses == 0


def test_where_nobody_is_released_the_oldest_pause_goes_as_ever(llama: Any) -> None:
    driver = asking(llama)
    for name in "cde":
        request = driver.add(name, prompt(30, seed=ord(name)), greedy(4))
        assert [answer for _, answer in driver.core.turn([])] == [FULL]
        driver.turn(partial(driver.core.answered, request, True))
        driver.finish()
        assert len(driver.said[name]) == 4
    assert driver.core.stats.evicted_pauses == 1 and "a" not in driver.core.cache.pauses


def test_one_that_is_asked_may_be_cancelled_and_others_pass_it(llama: Any) -> None:
    driver = asking(llama)
    request = driver.add("c", prompt(30, seed=3), greedy(4))
    assert [answer for _, answer in driver.core.turn([])] == [FULL]
    back = driver.request("b", prompt(30, seed=ord("b")) + driver.said["b"], greedy(2))
    driver.turn(partial(driver.core.add, back))
    driver.finish()
    assert len(driver.said["b"]) == 2, "it holds a pause of its own"
    driver.turn(partial(driver.core.cancel, request))
    assert not driver.core.busy and driver.core.stats.re_encoded == 0


def test_a_lone_row_may_take_the_whole_bound(llama: Any) -> None:
    driver = Driver(llama, bound=64)
    driver.run("a", prompt(30), greedy(20))
    assert len(driver.run("b", prompt(40, 1), greedy(99))) == 24
    assert driver.reasons["b"] is FinishReason.LENGTH
    assert list(driver.core.cache.pauses) == ["b"]


def test_release_while_running_keeps_nothing(llama: Any) -> None:
    driver = Driver(llama)
    driver.add("a", prompt(9), greedy(5))
    driver.turn()
    driver.turn(partial(driver.core.cache.release, "a"))
    driver.finish()
    assert driver.core.stats.paused_rows == 0
    assert len(driver.said["a"]) == 5


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_events_within_a_tight_bound(
    llama: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random joins, cancels, resumes and releases; the driver checks the bound at every turn."""
    monkeypatch.setattr(core_module, "PREFILL_TOKENS", 24)
    draw = random.Random(seed)
    driver = Driver(llama, bound=400)
    ids = {str(n): [*prompt(30, n % 2), n] for n in range(6)}
    requests: dict[str, Request] = {}
    for _ in range(150):
        name = draw.choice(list(ids))
        request = requests.get(name)
        commands: list[Any] = []
        if request is None:
            ids[name] += [1] * draw.choice([0, 0, 3])
            how = params(draw.randint(1, 12), int(name), top_p=0.9)
            requests[name] = driver.request(name, ids[name], how)
            commands.append(partial(driver.core.add, requests[name]))
        elif draw.random() < 0.3:
            commands.append(partial(driver.core.cancel, request))
            driver.reasons[name] = FinishReason.ABORT
        elif draw.random() < 0.1:
            commands.append(partial(driver.core.cache.release, name))
        driver.turn(*commands)
        for done in [name for name in requests if name in driver.reasons]:
            ids[done] += driver.said[done]
            del requests[done], driver.reasons[done]
        ids = {n: known if len(known) < 200 else known[:31] for n, known in ids.items()}
    driver.finish()
    fresh = Driver(llama)
    for name, known in ids.items():
        driver.add(name, known, greedy(8))
        driver.finish()
        assert driver.said[name] == fresh.run(name, known, greedy(8))
