"""How long problems take on this machine: measured as the run goes, and estimated for fewer trajectories.

A step of the engine with k streams takes s(k) = a + b * k seconds, one token for each of them. A problem
that launches N trajectories and keeps K takes about

    min(mark, L) * s(N) + check * N + max(0, L - mark) * s(K) + tools + other      seconds

where L is the expected length of the longest of K trajectories; with several checks, each has a mark, and
those that it keeps go on to the next one. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from solver.config import PaceConfig, PruneConfig
from solver.types import Check

RECENT = 8  # problems that count: the load of a machine changes
_PRIOR_TOKENS = 4.0  # what each point of the prior weighs in the fit: soon outweighed
_LEAST_SPREAD = (
    1e-6  # of the numbers of streams, relative; below it their cost cannot be told apart
)


@dataclass(frozen=True, slots=True)
class Steps:
    """Sums over requests, for a fit of seconds a token over streams; each token weighs the same."""

    tokens: float = 0.0
    streams: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0
    products: float = 0.0

    @classmethod
    def of(cls, tokens: float, streams: float, seconds: float) -> Self:
        """One request: `tokens` in `seconds`, beside so many streams on average, itself included."""
        return cls(tokens, tokens * streams, tokens * streams**2, seconds, streams * seconds)

    def __add__(self, other: Steps) -> Steps:
        return Steps(
            self.tokens + other.tokens,
            self.streams + other.streams,
            self.squares + other.squares,
            self.seconds + other.seconds,
            self.products + other.products,
        )

    def fit(self) -> tuple[float, float]:
        """(a, b) of s(k) = a + b * k by least squares, none of them negative; zeros without a token.

        Where all requests had equally many streams, a is all of it: fewer are taken to be no faster.
        """
        if self.tokens <= 0:
            return 0.0, 0.0
        mean = self.seconds / self.tokens
        spread = self.tokens * self.squares - self.streams**2
        if spread <= _LEAST_SPREAD * self.tokens * self.squares:
            return mean, 0.0
        slope = (self.tokens * self.products - self.streams * self.seconds) / spread
        base = (self.seconds - slope * self.streams) / self.tokens
        if slope < 0:
            return mean, 0.0
        return (base, slope) if base >= 0 else (0.0, self.products / self.squares)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one problem took.

    Lengths are sampled tokens: of trajectories that came to their own end, of those that the vote stopped
    when it was decided, and of those that the deadline cut, which are taken to have been half-way: they
    are `silent` if they had no answer when it was forced. `tool_s` is what one of them waited for its
    tools, on average; `check_s` a prefix's part of the check; `other_s` what steps, tools and check leave
    unexplained. All in seconds.
    """

    steps: Steps = Steps()
    ended: tuple[int, ...] = ()
    stopped: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    tool_s: float = 0.0
    check_s: float = 0.0
    other_s: float = 0.0

    @property
    def lengths(self) -> tuple[int, ...]:
        """How long its trajectories are, or are thought to be."""
        return (*self.ended, *self.stopped, *self.cut, *self.silent)

    @property
    def answering(self) -> tuple[int, ...]:
        """How long those are that tell what an answer takes; a forced one may come after any length."""
        return (*self.ended, *self.silent)


@dataclass(frozen=True, slots=True)
class Pace:
    """What problems take: the last ones, and before there are any, what the config expects."""

    prior: Taken = Taken()
    recent: tuple[Taken, ...] = ()

    @classmethod
    def expected(cls, config: PaceConfig, prune: PruneConfig) -> Self:
        """The pace before anything is measured; what `config` does not know counts nothing."""
        steps = Steps()
        if config.step_s is not None:
            for streams in {1, prune.launch}:
                seconds = _PRIOR_TOKENS * (config.step_s + config.stream_s * streams)
                steps += Steps.of(_PRIOR_TOKENS, streams, seconds)
        ended = () if config.tokens is None else (config.tokens,)
        return cls(Taken(steps, ended, tool_s=config.tool_s, check_s=config.check_s))

    def after(self, taken: Taken | None) -> Pace:
        """The pace once a problem is solved; None took nothing that could be measured."""
        if taken is None:
            return self
        return Pace(self.prior, (*self.recent, taken)[-RECENT:])

    def seconds(self, launch: int, checks: Sequence[Check], at_once: int = 1) -> float:
        """What a problem is expected to take; `at_once` of them share the engine. 0: nothing is known.

        Never less for more trajectories.
        """
        known = self._known()
        longest = _mean(_expected_longest(taken.lengths, checks[-1].keep) for taken in known)
        check_s = _mean(taken.check_s for taken in known if taken.check_s)
        seconds, streams, reached = 0.0, launch, 0.0
        for mark, keep in checks:
            seconds += (min(longest, mark) - reached) * self._step_s(at_once * streams)
            if streams > keep and longest > mark:
                seconds += streams * check_s
            streams, reached = keep, min(longest, mark)
        return seconds + (longest - reached) * self._step_s(at_once * streams) + self._beside(known)

    def least_s(self, at_once: int = 1) -> float:
        """What one answer takes: one trajectory of usual length.

        0 if nothing is known, or all were cut and had an answer when it was forced.
        """
        known = [taken for taken in self._known() if taken.answering]
        if not known:
            return 0.0
        length = _mean(_mean(taken.answering) for taken in known)
        return length * self._step_s(at_once) + self._beside(known)

    def _known(self) -> list[Taken]:
        """The problems that tell how long trajectories are."""
        measured = [taken for taken in self.recent if taken.lengths]
        return measured or [taken for taken in (self.prior,) if taken.lengths]

    def _step_s(self, streams: int) -> float:
        base, slope = sum((taken.steps for taken in self.recent), self.prior.steps).fit()
        return base + slope * streams

    def _beside(self, known: Iterable[Taken]) -> float:
        return _mean(taken.tool_s + taken.other_s for taken in known)


def taken_by(
    *,
    steps: Steps,
    ended: Iterable[int],
    stopped: Iterable[int],
    cut: Iterable[int],
    silent: Iterable[int],
    tools_s: Iterable[float],
    check_s: float,
    elapsed_s: float,
    launch: int,
    checks: Sequence[Check],
    most: int,
    at_once: int = 1,
) -> Taken:
    """What a problem took that launched so many and had these `checks`, by the tokens of its trajectories.

    `cut` and `silent` are those that the deadline cut, with an answer and without, `most` the tokens that
    one may sample, `tools_s` the seconds that each waited for its tools. What the steps of its own
    requests, its tools and its check leave of `elapsed_s` is `other_s`; where the deadline ended the
    problem, nothing can be told from that.
    """

    def whole(halves: Iterable[int]) -> tuple[int, ...]:
        return tuple(min(2 * length, max(length, most)) for length in halves)

    taken = Taken(
        steps, tuple(ended), tuple(stopped), whole(cut), whole(silent), _mean(tools_s), check_s
    )
    if taken.cut or taken.silent or not taken.ended:
        return taken
    explained = Pace(recent=(taken,)).seconds(launch, checks, at_once)
    return replace(taken, other_s=max(0.0, elapsed_s - explained))


def _expected_longest(lengths: Iterable[int], count: int) -> float:
    """The expected longest of `count` draws from `lengths`, each as likely as the others.

    sum over i of x_i * ((i / m)**count - ((i - 1) / m)**count), with x_1 <= ... <= x_m
    """
    ordered = sorted(lengths)
    shares = [(place / len(ordered)) ** count for place in range(len(ordered) + 1)]
    return sum(length * (shares[place + 1] - shares[place]) for place, length in enumerate(ordered))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 0.0
