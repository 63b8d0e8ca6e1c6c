"""Every family's answer against a brute force written apart from its own code."""

from itertools import combinations, combinations_with_replacement, product
from random import Random

import pytest

from solver.embedded.families import (
    FAMILIES,
    MAX_ANSWER,
    SHARES,
    Family,
    Kind,
    Numbers,
    Outcome,
    answer_of,
    is_sound,
    run_cells,
)


def digits(x: int) -> list[int]:
    found = []
    while x:
        x, digit = divmod(x, 10)
        found.append(digit)
    return found


def digit_sum(v: Numbers, reading: str) -> int:
    power = {"sum": 1, "squares": 2}[reading]
    sums = (sum(d**power for d in digits(x)) for x in range(v["a"], v["b"] + 1))
    return sum(s / v["m"] == s // v["m"] for s in sums)


def in_base(v: Numbers, reading: str) -> int:
    def written(x: int) -> list[int]:
        return [x % v["b"], *written(x // v["b"])] if x else []

    counts = [written(x).count(v["d"]) for x in range(1, v["n"] + 1)]
    if reading == "exactly":
        return counts.count(v["k"])
    return sum(counts.count(few) for few in range(v["k"] + 1))


def digit_walk(v: Numbers, reading: str) -> int:
    power = {"sum": 1, "squares": 2}[reading]
    x = v["s"]
    for _ in range(v["k"]):
        x += sum(d**power for d in digits(x))
    return x


def pairs(v: Numbers, reading: str) -> int:
    fits = {
        (x, y)
        for x, y in product(range(1, v["n"] + 1), repeat=2)
        if x * y <= v["n"] and (x + y) % v["m"] == v["r"]
    }
    return len(fits) if reading == "ordered" else len({frozenset(pair) for pair in fits})


def ellipse(v: Numbers, reading: str) -> int:
    reach = range(-100, 101)
    values = [v["a"] * x * x + v["b"] * y * y for x in reach for y in reach]
    return sum(value < v["n"] + (reading == "at_most") for value in values)


def largest_product(v: Numbers, reading: str) -> int:
    best = 0
    for x, y in product(range(1, v["n"] // v["a"] + 1), range(1, v["n"] // v["b"] + 1)):
        total = v["a"] * x + v["b"] * y
        if total == v["n"] or (total < v["n"] and reading == "at_most"):
            best = max(best, x * y)
    return best


def coins(v: Numbers, reading: str) -> int:
    a, b, c, n = v["a"], v["b"], v["c"], v["n"]
    total = 0
    for i, j in product(range(n // a + 1), range(n // b + 1)):
        k, rest = divmod(n - a * i - b * j, c)
        if rest == 0 and k >= 0:
            total += multinomial(i, j, k) if reading == "ordered" else 1
    return total


def multinomial(*counts: int) -> int:
    from math import comb

    ways, seen = 1, 0
    for count in counts:
        seen += count
        ways *= comb(seen, count)
    return ways


def triples(v: Numbers, reading: str) -> int:
    pick = {"distinct": combinations, "repeats": combinations_with_replacement}[reading]
    return sum(sum(t) == v["n"] for t in pick(range(v["a"], v["m"] + 1), 3))


def multiples(v: Numbers, reading: str) -> int:
    first = set(range(v["a"], v["n"] + 1, v["a"]))
    second = set(range(v["b"], v["n"] + 1, v["b"]))
    return len(first | second if reading == "at_least" else first ^ second)


def recurrence(v: Numbers, reading: str) -> int:
    before, now, total = v["p"], v["q"], v["p"] + v["q"]
    for _ in range(v["k"] - 2):
        before, now = now, now + v["c"] * before
        total += now
    return (now if reading == "term" else total) % v["m"]


def power_sum(v: Numbers, reading: str) -> int:
    inner = 0
    for i in range(v["a"] + 1, v["b"]):
        inner += i ** v["k"]
    ends = v["a"] ** v["k"] + v["b"] ** v["k"]
    return (inner + (ends if reading == "inclusive" else 0)) % v["m"]


def divisors(v: Numbers, reading: str) -> int:
    top = v["n"] if reading == "all" else v["n"] - 1
    return sum(d for d in range(1, top + 1) if v["n"] % d == 0 and d > v["k"])


BRUTE_FORCE = {
    "digit_sum": digit_sum, "in_base": in_base, "digit_walk": digit_walk, "pairs": pairs,
    "ellipse": ellipse, "product": largest_product, "coins": coins, "triples": triples,
    "multiples": multiples, "recurrence": recurrence, "power_sum": power_sum,
    "divisors": divisors,
}  # fmt: skip

by_name = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def sound_numbers(family: Family, count: int, seed: int) -> list[Numbers]:
    rng = Random(seed)
    found: list[Numbers] = []
    while len(found) < count:
        numbers = family.sample(rng)
        if is_sound(family, numbers):
            found.append(numbers)
    return found


@by_name
def test_answers_equal_an_independent_brute_force(family: Family) -> None:
    for numbers in sound_numbers(family, 15, seed=5):
        for reading in family.readings:
            expected = BRUTE_FORCE[family.name](numbers, reading.name)
            assert answer_of(family, reading, numbers) == expected, (numbers, reading.name)


@by_name
def test_readings_differ_and_answers_are_in_range(family: Family) -> None:
    for numbers in sound_numbers(family, 40, seed=6):
        first, second = (answer_of(family, reading, numbers) for reading in family.readings)
        assert first != second
        assert 0 <= min(first, second) <= max(first, second) <= MAX_ANSWER


@by_name
def test_the_check_agrees_for_every_reading(family: Family) -> None:
    for numbers in sound_numbers(family, 10, seed=7):
        for reading in (*family.readings, *family.mistaken):
            cells = [family.text(step.code, reading, numbers) for step in family.steps]
            assert run_cells(cells)[-1].endswith(" True\n"), (reading.name, numbers)


@by_name
def test_wordings_and_plans_tell_the_readings_apart(family: Family) -> None:
    numbers = sound_numbers(family, 1, seed=8)[0]
    for template in family.statements:
        assert len({family.text(template, reading, numbers) for reading in family.readings}) == 2
    every = (*family.readings, *family.mistaken)
    for template in family.plans:
        assert len({family.text(template, reading, numbers) for reading in every}) == len(every)


@by_name
def test_settings_are_many(family: Family) -> None:
    rng = Random(9)
    drawn = [tuple(family.sample(rng).values()) for _ in range(4000)]
    # 4,000 draws from N equal settings repeat about 4000^2 / 2N times: 5,000 settings or more.
    assert len(drawn) - len(set(drawn)) < 1600


def test_kinds_are_in_equal_shares_and_shares_are_the_stated_ones() -> None:
    assert len(FAMILIES) >= 12
    assert {sum(family.kind is kind for family in FAMILIES) for kind in Kind} == {4}
    order = (Outcome.RIGHT, Outcome.WRONG, Outcome.OTHER)
    assert [SHARES[Kind.COMMON][o] for o in order] == [0.60, 0.25, 0.15]
    assert [SHARES[Kind.TIE][o] for o in order] == [0.40, 0.40, 0.20]
    assert [SHARES[Kind.CONTRARY][o] for o in order] == [0.35, 0.45, 0.20]


def test_most_families_call_the_tool_more_than_once() -> None:
    assert all(len(family.steps) >= 2 for family in FAMILIES)
