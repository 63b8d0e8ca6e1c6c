"""Families that count ways and multiples."""

from __future__ import annotations

from random import Random

from solver.embedded.families.base import Family, Kind, Numbers, Reading, Step


def _coins_numbers(rng: Random) -> Numbers:
    a, b, c = sorted(rng.sample(range(2, 16), 3))
    return {"n": rng.randint(18, 90), "a": a, "b": b, "c": c}


_ORDERED = "for s in range(1, n + 1):\n    for p in parts:\n        if p <= s:\n"
_UNORDERED = "for p in parts:\n    for s in range(p, n + 1):\n        if s > 0:\n"

COINS = Family(
    name="coins",
    kind=Kind.TIE,
    sample=_coins_numbers,
    statements=(
        "In how many ways can $n be written as a sum of parts $a, $b and $c, if $asked?",
        "A strip of length $n is cut into pieces of length $a, $b or $c. $Asked. How many"
        " ways are there?",
    ),
    plans=(
        "Read: sums to $n, parts $list, $what. Plan: fill a table of ways.",
        "I write $n with parts $list, $what. Plan: fill a table of ways.",
    ),
    defaults={"list": "$a, $b, $c"},
    readings=(
        Reading(
            "ordered",
            {
                "what": "order counts",
                "asked": "the order of the parts counts",
                "Asked": "The order of the pieces counts",
                "loops": _ORDERED,
            },
        ),
        Reading(
            "unordered",
            {
                "what": "order ignored",
                "asked": "the order of the parts is ignored",
                "Asked": "The order of the pieces is ignored",
                "loops": _UNORDERED,
            },
        ),
    ),
    mistaken=(
        Reading(
            "two_ordered",
            {"what": "two parts only, order counts", "loops": _ORDERED, "list": "$a, $b"},
        ),
        Reading(
            "two_unordered",
            {"what": "two parts only, order ignored", "loops": _UNORDERED, "list": "$b, $c"},
        ),
    ),
    steps=(
        Step(
            ("First an empty table.", "I start with the table: one way for 0."),
            "n = $n\nparts = [$list]\nways = [0] * (n + 1)\nways[0] = 1\n"
            "print(len(ways), len(parts))",
        ),
        Step(
            ("Now fill it, $what.", "The table is there. Fill it, $what."),
            "$loops            ways[s] += ways[s - p]\ntotal = ways[n]\nprint(total)",
        ),
        Step(
            ("Check the small sums by hand.", "Check that no sum below the parts has a way."),
            "again = ways[-1]\nlow = max(ways[1:min(parts)])\n"
            "print(again, again == total and low == 0)",
            check=True,
        ),
    ),
    slips=(("n = $n", "n = $n - 1"), ("ways[0] = 1", "ways[1] = 1")),
)


def _triples_numbers(rng: Random) -> Numbers:
    low = rng.randint(1, 9)
    high = low + rng.randint(12, 50)
    return {"a": low, "m": high, "n": rng.randint(3 * low + 6, 3 * high - 6)}


TRIPLES = Family(
    name="triples",
    kind=Kind.TIE,
    sample=_triples_numbers,
    statements=(
        "In how many ways is $n a sum of three $asked from $a to $m, if their order is ignored?",
        "How many solutions has x + y + z = $n in $asked from $a to $m? Order is ignored.",
    ),
    plans=(
        "Read: sum $n, three $what from $a to $m, order $order. Plan: loop x, y.",
        "I want three $what from $a to $m, sum $n, order $order. Plan: loop x, y.",
    ),
    defaults={"order": "ignored", "end": "m", "left": "y"},
    readings=(
        Reading(
            "distinct",
            {
                "what": "distinct integers",
                "asked": "distinct integers",
                "next": "x + 1",
                "rel": "<",
            },
        ),
        Reading(
            "repeats",
            {
                "what": "integers, repeats allowed",
                "next": "x",
                "rel": "<=",
                "asked": "integers, repeats allowed,",
            },
        ),
    ),
    mistaken=(
        Reading(
            "ordered",
            {
                "what": "integers, repeats allowed",
                "next": "a",
                "rel": "<=",
                "order": "counts",
                "left": "a",
            },
        ),
        Reading(
            "below",
            {
                "what": "distinct integers below the top",
                "next": "x + 1",
                "rel": "<",
                "end": "m - 1",
            },
        ),
    ),
    steps=(
        Step(
            ("First collect $what.", "I choose $what, z is known."),
            "n = $n\na = $a\nm = $m\nend = $end\nfound = []\nfor x in range(a, end + 1):\n"
            "    for y in range($next, end + 1):\n        z = n - x - y\n"
            "        if $left $rel z <= end:\n            found.append((x, y, z))\n"
            "print(found[:1])",
        ),
        Step(("Count them.", "The list is full. Count it."), "total = len(found)\nprint(total)"),
        Step(
            (
                "Check the sums and the number of different triples.",
                "Check that all of them add up and differ.",
            ),
            "again = len(set(t for t in found if sum(t) == n))\nprint(again, again == total)",
            check=True,
        ),
    ),
    slips=(("end = $end", "end = $end - 1"), ("range(a, end + 1)", "range(a + 1, end + 1)")),
)


def _multiples_numbers(rng: Random) -> Numbers:
    a, b = rng.sample(range(3, 41), 2)
    return {"n": rng.randint(200, 1999), "a": a, "b": b}


MULTIPLES = Family(
    name="multiples",
    kind=Kind.CONTRARY,
    sample=_multiples_numbers,
    statements=(
        "How many integers from 1 to $n are divisible by $what of $a and $b?",
        "Count the positive integers up to $n that are multiples of $what of $a, $b.",
    ),
    plans=(
        "Read: 1 to $n, divisible by $what of $a and $b. Plan: list, count.",
        "I want multiples of $what of $a and $b up to $n. Plan: list, count.",
    ),
    readings=(
        Reading(
            "at_least", {"what": "at least one", "test": ">= 1", "by": "n // a + n // b - n // c"}
        ),
        Reading(
            "exactly",
            {"what": "exactly one", "test": "== 1", "by": "n // a + n // b - 2 * (n // c)"},
        ),
    ),
    mistaken=(
        Reading("both", {"what": "both", "test": "== 2", "by": "n // c"}),
        Reading("none", {"what": "none", "test": "== 0", "by": "n - n // a - n // b + n // c"}),
    ),
    steps=(
        Step(
            ("First list multiples of $what.", "I keep multiples of $what."),
            "n = $n\na = $a\nb = $b\ngood = []\nfor x in range(1, n + 1):\n"
            "    hits = (x % a == 0) + (x % b == 0)\n    if hits $test:\n"
            "        good.append(x)\nprint(good[:2])",
        ),
        Step(("Count them.", "Now the length of the list."), "total = len(good)\nprint(total)"),
        Step(
            ("Check $what with the lcm.", "The lcm gives $what too."),
            "from math import lcm\nc = lcm(a, b)\nagain = $by\nprint(again, again == total)",
            check=True,
        ),
    ),
    slips=(("range(1, n + 1)", "range(n + 1)"), ("x % b", "x // b")),
)
