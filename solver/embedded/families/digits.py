"""Families about the digits of numbers."""

from __future__ import annotations

from random import Random

from solver.embedded.families.base import Family, Kind, Numbers, Reading, Step


def _digit_sum_numbers(rng: Random) -> Numbers:
    low = rng.randint(10, 500)
    return {"a": low, "b": low + rng.randint(150, 700), "m": rng.randint(3, 19)}


DIGIT_SUM = Family(
    name="digit_sum",
    kind=Kind.COMMON,
    sample=_digit_sum_numbers,
    statements=(
        "How many integers from $a to $b have a $what divisible by $m?",
        "Count the integers x with $a <= x <= $b whose $what is a multiple of $m.",
    ),
    plans=(
        "Read: integers from $a to $b, $what divisible by $m. Plan: list.",
        "I want the $what divisible by $m, x from $a to $b. Plan: list.",
    ),
    defaults={"less": ""},
    readings=(
        Reading("sum", {"what": "sum of digits", "term": "int(c)"}),
        Reading("squares", {"what": "sum of the squares of digits", "term": "int(c) ** 2"}),
    ),
    mistaken=(
        Reading("cubes", {"what": "sum of the cubes of digits", "term": "int(c) ** 3"}),
        Reading("remainder", {"what": "sum of digits minus 1", "term": "int(c)", "less": " - 1"}),
    ),
    steps=(
        Step(
            ("First list by the $what.", "I go through the range by the $what."),
            "a = $a\nb = $b\nm = $m\ngood = []\nfor x in range(a, b + 1):\n"
            "    s = sum($term for c in str(x))$less\n    if s % m == 0:\n"
            "        good.append(x)\nprint(good[:2])",
        ),
        Step(
            ("The list is made. Count it.", "Now its length is the answer."),
            "total = len(good)\nprint(total)",
        ),
        Step(
            ("Check with a direct count.", "I count once more in one line."),
            "again = sum((sum($term for c in str(x))$less) % m == 0 for x in range(a, b + 1))\n"
            "print(again, again == total)",
            check=True,
        ),
    ),
    slips=(("b + 1", "b"), ("range(a, b + 1)", "range(1, b + 1)")),
)


def _in_base_numbers(rng: Random) -> Numbers:
    base = rng.randint(2, 9)
    return {
        "n": rng.randint(100, 900),
        "b": base,
        "d": rng.randint(1, base - 1),
        "k": rng.randint(1, 3),
    }


IN_BASE = Family(
    name="in_base",
    kind=Kind.TIE,
    sample=_in_base_numbers,
    statements=(
        "How many integers from 1 to $n have $what $k digits equal to $d in base $b?",
        "Written in base $b, how many of the integers 1 to $n contain the digit $d $what $k times?",
    ),
    plans=(
        "Read: 1 to $n in base $b, digit $d $what $k times. Plan: list, count.",
        "In base $b I want digit $d $what $k times, from 1 to $n. Plan: list, count.",
    ),
    readings=(
        Reading("exactly", {"what": "exactly", "rel": "=="}),
        Reading("at_most", {"what": "at most", "rel": "<="}),
    ),
    mistaken=(
        Reading("at_least", {"what": "at least", "rel": ">="}),
        Reading("fewer", {"what": "fewer than", "rel": "<"}),
    ),
    steps=(
        Step(
            ("First a function for the digits.", "I write a function that counts the digit."),
            "n = $n\nb = $b\nd = $d\ndef count(x):\n    c = 0\n    while x:\n"
            "        c += x % b == d\n        x //= b\n    return c\nprint(count(n))",
        ),
        Step(
            ("Now list those with $what $k.", "With it I list $what $k."),
            "good = [x for x in range(1, n + 1) if count(x) $rel $k]\n"
            "total = len(good)\nprint(total)",
        ),
        Step(
            ("Check with a running count.", "I count once more in a loop."),
            "again = 0\nfor x in range(n, 0, -1):\n    if count(x) $rel $k:\n"
            "        again += 1\nprint(again, again == total)",
            check=True,
        ),
    ),
    slips=(("x //= b", "x //= 10"), ("x % b == d", "x % 10 == d")),
)


def _digit_walk_numbers(rng: Random) -> Numbers:
    return {"s": rng.randint(10, 1999), "k": rng.randint(5, 40)}


DIGIT_WALK = Family(
    name="digit_walk",
    kind=Kind.CONTRARY,
    sample=_digit_walk_numbers,
    statements=(
        "Start with $s. Each step adds to the number the $what. Find the number after $k steps.",
        "A machine shows $s and in every step adds the $what. What does it show after $k steps?",
    ),
    plans=(
        "Read: start at $s, add the $what, $k times. Plan: repeat.",
        "From $s I do $k steps, each adds the $what. Plan: repeat.",
    ),
    readings=(
        Reading("sum", {"what": "sum of its digits", "term": "int(c)", "fold": "sum"}),
        Reading(
            "squares",
            {"what": "sum of the squares of its digits", "term": "int(c) ** 2", "fold": "sum"},
        ),
    ),
    mistaken=(
        Reading("largest", {"what": "largest of its digits", "term": "int(c)", "fold": "max"}),
        Reading(
            "cubes",
            {"what": "sum of the cubes of its digits", "term": "int(c) ** 3", "fold": "sum"},
        ),
    ),
    steps=(
        Step(
            ("First one step with the $what.", "I define a step by the $what."),
            "s = $s\nk = $k\ndef step(x):\n    return x + $fold($term for c in str(x))\n"
            "print(step(s))",
        ),
        Step(
            ("Now repeat it and keep the values.", "The step works, so I repeat it."),
            "values = [s]\nfor i in range(k):\n    values.append(step(values[-1]))\n"
            "last = values[-1]\nprint(last)",
        ),
        Step(
            ("Check by stepping again.", "I repeat it without the list."),
            "x = s\nfor i in range(k):\n    x = step(x)\nprint(x, x == last)",
            check=True,
        ),
    ),
    slips=(("return x + ", "return s + "), ("k = $k", "k = $k - 1")),
)
