"""Families about sequences, sums of powers and divisors."""

from __future__ import annotations

from random import Random

from solver.embedded.families.base import Family, Kind, Numbers, Reading, Step


def _recurrence_numbers(rng: Random) -> Numbers:
    return {
        "p": rng.randint(1, 9),
        "q": rng.randint(1, 9),
        "c": rng.randint(2, 9),
        "k": rng.randint(8, 60),
        "m": rng.randint(50, 999),
    }


RECURRENCE = Family(
    name="recurrence",
    kind=Kind.COMMON,
    sample=_recurrence_numbers,
    statements=(
        "A sequence starts with $p, $q and every later term is the last plus $c times the one"
        " before it. Find the remainder when $what is divided by $m.",
        "Two numbers $p, $q start a sequence; a new term is the last plus $c times the one before"
        " it. What is $what modulo $m?",
    ),
    plans=(
        "Read: $what, modulo $m, start $p, $q. Plan: list the terms.",
        "I need $what modulo $m, start $p, $q. Plan: list the terms.",
    ),
    readings=(
        Reading("term", {"what": "term number $k", "pick": "a[k - 1]"}),
        Reading("total", {"what": "the sum of the first $k terms", "pick": "sum(a)"}),
    ),
    mistaken=(
        Reading("before", {"what": "the term before number $k", "pick": "a[k - 2]"}),
        Reading(
            "last_two", {"what": "the sum of the last 2 of $k terms", "pick": "a[k - 2] + a[k - 1]"}
        ),
    ),
    steps=(
        Step(
            ("First build the terms.", "I list the terms one after the other."),
            "a = [$p, $q]\nc = $c\nk = $k\nwhile len(a) < k:\n"
            "    a.append(a[-1] + c * a[-2])\nprint(a[:3])",
        ),
        Step(
            ("Now $what, reduced.", "From the list I take $what."),
            "m = $m\nrest = ($pick) % m\nprint(rest)",
        ),
        Step(
            ("Check by reducing every term at once.", "I do it again with remainders only."),
            "b = [a[0], a[1]]\nwhile len(b) < k:\n    b.append((b[-1] + c * b[-2]) % m)\n"
            "a = b\nagain = ($pick) % m\nprint(again, again == rest)",
            check=True,
        ),
    ),
    slips=(("k = $k", "k = $k + 1"), ("c * a[-2]", "a[-2]")),
)


def _power_sum_numbers(rng: Random) -> Numbers:
    low = rng.randint(2, 80)
    return {
        "a": low,
        "b": low + rng.randint(10, 99),
        "k": rng.randint(2, 5),
        "m": rng.randint(50, 999),
    }


POWER_SUM = Family(
    name="power_sum",
    kind=Kind.CONTRARY,
    sample=_power_sum_numbers,
    statements=(
        "Let S be the sum of i^$k over the integers i from $a to $b, $what. Find S modulo $m.",
        "Add i^$k for all integers i between $a and $b, $what. What is the remainder when the"
        " sum is divided by $m?",
    ),
    plans=(
        "Read: i^$k for i from $a to $b, $what, modulo $m. Plan: list, add.",
        "I add i^$k, i between $a and $b, $what, modulo $m. Plan: list, add.",
    ),
    readings=(
        Reading("inclusive", {"what": "both ends included", "span": "range(a, b + 1)"}),
        Reading("strict", {"what": "both ends excluded", "span": "range(a + 1, b)"}),
    ),
    mistaken=(
        Reading("half", {"what": "only the first end included", "span": "range(a, b)"}),
        Reading("late", {"what": "only the last end included", "span": "range(a + 1, b + 1)"}),
    ),
    steps=(
        Step(
            ("First list the powers, $what.", "I list the powers, $what."),
            "a = $a\nb = $b\nk = $k\nbase = list($span)\npowers = [i ** k for i in base]\n"
            "print(len(powers))",
        ),
        Step(
            ("Now add them and reduce.", "The list is ready. Add it."),
            "m = $m\nrest = sum(powers) % m\nprint(rest)",
        ),
        Step(
            ("Check again, $what.", "I add again, $what."),
            "again = 0\nfor i in $span:\n    again = (again + pow(i, k, m)) % m\n"
            "print(again, again == rest)",
            check=True,
        ),
    ),
    slips=(("i ** k", "i ** 2"), ("list($span)", "list($span)[1:]")),
)


def _divisors_numbers(rng: Random) -> Numbers:
    # A product of small factors has divisors enough to make the question worth asking.
    n = rng.randint(2, 12) * rng.randint(2, 30) * rng.randint(2, 30)
    return {"n": n, "k": rng.randint(2, 60)}


DIVISORS = Family(
    name="divisors",
    kind=Kind.COMMON,
    sample=_divisors_numbers,
    statements=(
        "Find the sum of the $what of $n that are greater than $k.",
        "Add up all $what of $n above $k. What is the sum?",
    ),
    plans=(
        "Read: $what of $n greater than $k, their $goal. Plan: find pairs.",
        "I want the $goal of $what of $n greater than $k. Plan: find pairs.",
    ),
    defaults={"goal": "sum", "fold": "sum(kept)", "also": ""},
    readings=(
        Reading("all", {"what": "divisors, $n included,", "skip": "0"}),
        Reading("proper", {"what": "proper divisors", "skip": "n"}),
    ),
    mistaken=(
        Reading(
            "number",
            {"what": "proper divisors", "skip": "n", "goal": "number", "fold": "len(kept)"},
        ),
        Reading("even", {"what": "even divisors", "skip": "0", "also": " and d % 2 == 0"}),
    ),
    steps=(
        Step(
            ("First find the divisors in pairs.", "Divisors come in pairs d and n // d."),
            "n = $n\nfound = set()\nd = 1\nwhile d * d <= n:\n    if n % d == 0:\n"
            "        found |= {d, n // d}\n    d += 1\nprint(len(found))",
        ),
        Step(
            ("Keep the $what above $k.", "Now I keep $what above $k."),
            "k = $k\nkept = [d for d in found if d > k and d != $skip$also]\n"
            "total = $fold\nprint(total)",
        ),
        Step(
            ("Check by trying every number.", "I try every number up to n."),
            "kept = [d for d in range(k + 1, n + 1) if n % d == 0 and d != $skip$also]\n"
            "again = $fold\nprint(again, again == total)",
            check=True,
        ),
    ),
    slips=(("d += 1", "d += 2"), ("{d, n // d}", "{d}")),
)
