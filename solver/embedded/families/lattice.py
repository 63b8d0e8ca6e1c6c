"""Families that count points and pairs, and one that finds an optimum among them."""

from __future__ import annotations

from random import Random

from solver.embedded.families.base import Family, Kind, Numbers, Reading, Step


def _pairs_numbers(rng: Random) -> Numbers:
    modulus = rng.randint(3, 12)
    return {"n": rng.randint(60, 400), "m": modulus, "r": rng.randint(0, modulus - 1)}


PAIRS = Family(
    name="pairs",
    kind=Kind.COMMON,
    sample=_pairs_numbers,
    statements=(
        "How many $what (x, y) of positive integers with x * y at most $n have x + y leaving"
        " remainder $r when divided by $m?",
        "Positive integers x, y satisfy x * y <= $n, and x + y leaves remainder $r when divided"
        " by $m. Count the $what (x, y).",
    ),
    plans=(
        "Read: $what, x * y at most $n, x + y = $r mod $m. Plan: loop, add.",
        "I count $what, x * y at most $n, x + y = $r mod $m. Plan: loop.",
    ),
    defaults={"from": "1"},
    readings=(
        Reading("ordered", {"what": "ordered pairs", "start": "1"}),
        Reading("unordered", {"what": "unordered pairs", "start": "x"}),
    ),
    mistaken=(
        Reading("unequal", {"what": "pairs with x < y", "start": "x + 1"}),
        Reading("equal", {"what": "pairs with x > 1", "start": "1", "from": "2"}),
    ),
    steps=(
        Step(
            ("First the $what for each x.", "For every x I count $what."),
            "n = $n\nm = $m\nr = $r\nrows = []\nfor x in range($from, n + 1):\n"
            "    ys = [y for y in range($start, n // x + 1) if (x + y) % m == r]\n"
            "    rows.append(len(ys))\nprint(rows[:3])",
        ),
        Step(
            ("Now add the rows.", "The rows are ready. Add them."),
            "total = sum(rows)\nprint(total)",
        ),
        Step(
            ("Check with two plain loops.", "I count once more, pair by pair."),
            "again = 0\nfor x in range($from, n + 1):\n    for y in range($start, n // x + 1):\n"
            "        again += (x + y - r) % m == 0\nprint(again, again == total)",
            check=True,
        ),
    ),
    slips=(("n // x + 1", "n // x"), ("(x + y) % m", "x * y % m")),
)


def _ellipse_numbers(rng: Random) -> Numbers:
    a, b = rng.randint(2, 15), rng.randint(2, 15)
    x, y = rng.randint(1, 14), rng.randint(1, 14)
    # A point lies on the curve, or "at most" and "less than" would agree.
    return {"a": a, "b": b, "n": a * x * x + b * y * y}


ELLIPSE = Family(
    name="ellipse",
    kind=Kind.TIE,
    sample=_ellipse_numbers,
    statements=(
        "How many points (x, y) with integer coordinates make $a x^2 + $b y^2 $what $n?",
        "Count the pairs of integers x, y, of any sign, for which $a x^2 + $b y^2 is $what $n.",
    ),
    plans=(
        "Read: $a x^2 + $b y^2 $what $n, x, y $sign. Plan: loop.",
        "I want $a x^2 + $b y^2 $what $n, x, y $sign. Plan: loop.",
    ),
    defaults={"sign": "of any sign", "low": "-h", "bottom": "-k", "row": "2 * w + 1"},
    readings=(
        Reading("at_most", {"what": "at most", "top": "$n"}),
        Reading("less", {"what": "less than", "top": "$n - 1"}),
    ),
    mistaken=(
        Reading(
            "above",
            {
                "what": "at most",
                "sign": "above 0",
                "top": "$n",
                "row": "w",
                "low": "1",
                "bottom": "1",
            },
        ),
        Reading(
            "nonneg",
            {
                "what": "less than",
                "sign": "not below 0",
                "top": "$n - 1",
                "row": "w + 1",
                "low": "0",
                "bottom": "0",
            },
        ),
    ),
    steps=(
        Step(
            ("First the rows, $what $n.", "For every x, $what $n bounds y."),
            "from math import isqrt\na = $a\nb = $b\nt = $top\nh = isqrt(t // a)\nrows = []\n"
            "for x in range($low, h + 1):\n    w = isqrt((t - a * x * x) // b)\n"
            "    rows.append($row)\nprint(rows[-1])",
        ),
        Step(
            ("Now add the rows.", "The rows are ready. Add them."),
            "total = sum(rows)\nprint(total)",
        ),
        Step(
            ("Check by testing the points.", "I test the points one by one."),
            "k = isqrt(t // b)\nagain = sum(a * x * x + b * y * y <= t for x in range($low, h + 1)"
            " for y in range($bottom, k + 1))\nprint(again, again == total)",
            check=True,
        ),
    ),
    slips=(("h + 1", "h"), ("(t - a * x * x) // b", "(t - a * x * x) // a")),
)


def _product_numbers(rng: Random) -> Numbers:
    return {"a": rng.randint(2, 19), "b": rng.randint(2, 19), "n": rng.randint(120, 999)}


PRODUCT = Family(
    name="product",
    kind=Kind.CONTRARY,
    sample=_product_numbers,
    statements=(
        "Positive integers x and y make $a x + $b y $what $n. Find the largest value of x y.",
        "What is the greatest product x y of positive integers x, y with $a x + $b y $what $n?",
    ),
    plans=(
        "Read: $a x + $b y $what $n, $goal of x y. Plan: list products.",
        "I need $a x + $b y $what $n, the $goal of x y. Plan: list products.",
    ),
    defaults={"if": ""},
    readings=(
        Reading("at_most", {"what": "at most", "goal": "largest value", "rel": "<="}),
        Reading("exactly", {"what": "exactly", "goal": "largest value", "rel": "=="}),
    ),
    mistaken=(
        Reading("below", {"what": "less than", "goal": "largest value", "rel": "<"}),
        Reading(
            "square",
            {"what": "at most", "goal": "largest square", "rel": "<=", "if": " and x == y"},
        ),
    ),
    steps=(
        Step(
            ("First the products for $what $n.", "I list x y for $what $n."),
            "a = $a\nb = $b\nn = $n\nfound = []\nfor x in range(1, n // a + 1):\n"
            "    for y in range(1, (n - a * x) // b + 1):\n"
            "        if a * x + b * y $rel n$if:\n            found.append(x * y)\n"
            "print(len(found))",
        ),
        Step(
            ("Now the best of them.", "The list is full. Take the best."),
            "best = max(found, default=0)\nprint(best)",
        ),
        Step(
            ("Check by sorting.", "I sort them to be sure."),
            "order = sorted(found)\nagain = order[-1] if order else 0\nprint(again, again == best)",
            check=True,
        ),
    ),
    slips=(("(n - a * x) // b + 1", "(n - a * x) // b"), ("x * y)", "x + y)")),
)
