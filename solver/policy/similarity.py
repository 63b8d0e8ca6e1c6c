"""Redundancy of prefixes by text similarity: external, not learned (kind I).

Prefixes that say the same are worth keeping once. Similarity is Jaccard's, over shingles (runs of
`width` tokens), as in SlimSC; who repeats another the most is dropped first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet

Shingle = tuple[Hashable, ...]


def shingles(tokens: Sequence[Hashable], width: int) -> frozenset[Shingle]:
    """Every run of `width` tokens; fewer tokens than that are one shingle, none are none."""
    if width < 1:
        raise ValueError(f"a shingle has at least 1 token, not {width}")
    last = max(1, len(tokens) - width + 1) if tokens else 0
    return frozenset(tuple(tokens[start : start + width]) for start in range(last))


def jaccard(one: AbstractSet[Shingle], other: AbstractSet[Shingle]) -> float:
    """|A and B| / |A or B|, from 0 to 1; two empty sets are the same: 1."""
    shared = len(one & other)
    total = len(one) + len(other) - shared
    return shared / total if total else 1.0


def diversity(sets: Sequence[AbstractSet[Shingle]]) -> list[float]:
    """A score for each of n sets, from -1 to 0; keeping the highest K keeps diverse ones for any K.

    Of those still there the most similar pair is found, and of the two the one with the larger sum
    of similarities to all still there is dropped (of equal ones the later one). Its score is minus
    the pair's similarity; the last one left gets 0. Since the largest similarity only falls while
    sets are dropped, earlier drops never score higher. O(n^2) similarities, O(n^3) comparisons.
    """
    count = len(sets)
    table = [[0.0] * count for _ in range(count)]
    for i in range(count):
        for j in range(i):
            table[i][j] = table[j][i] = jaccard(sets[i], sets[j])
    sums = [sum(row) for row in table]
    left, scores = list(range(count)), [0.0] * count
    while len(left) > 1:
        similarity, _, drop = max((table[i][j], sums[i], i) for i in left for j in left if i != j)
        scores[drop] = -similarity
        left.remove(drop)
        for i in left:
            sums[i] -= table[i][drop]
    return scores
