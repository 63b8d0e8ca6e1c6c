"""Labelled prefixes for training STOP: rollouts, cut at the mark, and how often each prefix ends right.

    soft label s = (right continuations) / K        of K Monte-Carlo continuations of the same prefix

With K = 1 each launched rollout's own end is its label, and prefixes that several rollouts share get
the mean of theirs. Sampling is `sample`'s business; what is here is pure but for `collect` itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from solver.cli.progress import WorkProgress
from solver.errors import ConfigError, InputError
from solver.stop.rollouts.examples import StopExample, write_examples
from solver.stop.rollouts.file import RolloutFile, SamplingHeader, read_rollouts
from solver.stop.rollouts.rollout import ProblemRollouts, Rollout, num_errors
from solver.stop.rollouts.sample import Sampler, SamplingPlan
from solver.types import Problem, Trajectory

LEAST_RIGHT, MOST_RIGHT = 4 / 32, 28 / 32  # the problems that have a signal


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of a collection: examples, and the problems dropped as too easy or too hard."""

    examples: tuple[StopExample, ...]
    num_problems: int
    num_too_hard: int
    num_too_easy: int
    num_without_prefix: int
    num_errors: int

    def lines(self) -> list[str]:
        """The summary as the command prints it."""
        used = len({example.problem_id for example in self.examples})
        seen = sum(example.weight for example in self.examples)
        return [
            f"{len(self.examples)} examples ({seen:.0f} prefixes seen) of {used} problems",
            f"dropped for want of a signal: {self.num_too_hard} problems hardly ever right,"
            f" {self.num_too_easy} hardly ever wrong, {self.num_without_prefix} that never"
            " reach the mark",
            *([f"{self.num_errors} rollouts failed and count for nothing"] * bool(self.num_errors)),
        ]


def label(unit: ProblemRollouts, mark: int | None) -> list[StopExample]:
    """One example for each distinct prefix of a problem, in order of first appearance.

    Its label is the share of right ends among the finished rollouts that have this prefix; its weight
    is how many launched rollouts have it. Rollouts that ended before the mark have no prefix there.
    Without a mark the examples are whole rollouts with an answer, which are right or wrong.
    """
    weights: Counter[tuple[int, ...]] = Counter()
    ends: dict[tuple[int, ...], list[bool]] = {}
    logprobs: dict[tuple[int, ...], list[float]] = {}
    of_parent: dict[int, tuple[int, ...]] = {}
    for rollout in unit.rollouts:
        key: tuple[int, ...] | None
        if rollout.parent is not None:
            key = of_parent.get(rollout.parent)
        elif (prefix := _prefix(unit, rollout, mark)) is not None:
            key = of_parent[rollout.index] = tuple(prefix.token_ids)
            weights[key] += 1
            logprobs.setdefault(key, prefix.logprobs)
        else:
            key = None
        if key is not None and rollout.finished:
            ends.setdefault(key, []).append(unit.right(rollout))
    return [
        StopExample(
            prefix_token_ids=key,
            soft_label=sum(right) / len(right),
            num_rollouts=len(right),
            num_correct=sum(right),
            weight=float(weights[key]),
            problem_id=unit.problem_id,
            family=unit.tags.get("family"),
            kind=unit.tags.get("kind"),
            # whole rollouts of a problem are compared whatever their lengths
            logprobs=None if mark is None else tuple(logprobs[key]),
        )
        for key in weights
        if (right := ends.get(key))
    ]


def _prefix(unit: ProblemRollouts, rollout: Rollout, mark: int | None) -> Trajectory | None:
    return unit.whole(rollout) if mark is None else unit.prefix(rollout, mark)


def select(
    units: Sequence[ProblemRollouts], mark: int | None, least_right: float, most_right: float
) -> Collected:
    """Examples of the problems whose share of right ends is in [`least_right`, `most_right`].

    The share is the mean label of a problem's prefixes, by frequency. A problem that is never or
    always right has nothing to tell prefixes apart by.
    """
    kept: list[StopExample] = []
    hard = easy = empty = 0
    for unit in units:
        examples = label(unit, mark)
        weight = sum(example.weight for example in examples)
        if not weight:
            empty += 1
            continue
        share = sum(example.weight * example.soft_label for example in examples) / weight
        if share < least_right:
            hard += 1
        elif share > most_right:
            easy += 1
        else:
            kept += examples
    return Collected(tuple(kept), len(units), hard, easy, empty, num_errors(units))


def read_cut(
    path: Path, marks: Sequence[int]
) -> tuple[SamplingHeader, list[ProblemRollouts], tuple[StopExample, ...]]:
    """A file of rollouts, cut and labelled at each of `marks`; problems without a signal give no example.

    Without marks the examples are whole rollouts. Raises `ConfigError` for a mark, or ends, beyond what is
    stored, and `InputError` if no example is left.
    """
    header, units = read_rollouts(path)
    if marks:
        check_stored(max(marks), header.stored_tokens, path)
    else:
        check_whole(header, path)
    cuts = [select(units, mark, LEAST_RIGHT, MOST_RIGHT).examples for mark in marks or (None,)]
    examples = tuple(example for cut in cuts for example in cut)
    if not examples:
        raise InputError(f"{path} holds no problem that is right now and then")
    return header, units, examples


def check_stored(mark: int, stored_tokens: int, path: Path) -> None:
    """Raise `ConfigError` if rollouts of `stored_tokens` cannot be cut at `mark`."""
    if mark > stored_tokens:
        raise ConfigError(
            f"{path} holds {stored_tokens} tokens a rollout: --mark {mark} is beyond it"
        )


def check_whole(header: SamplingHeader, path: Path) -> None:
    """Raise `ConfigError` unless the rollouts of `path` are stored to their ends."""
    if not header.holds_whole:
        raise ConfigError(
            f"{path} holds the first {header.stored_tokens} tokens of its rollouts: sample them with --whole"
            " for a last check"
        )


async def collect(
    problems: Sequence[Problem],
    plan: SamplingPlan,
    header: SamplingHeader,
    sampler: Sampler,
    rollouts_path: Path,
    progress: WorkProgress,
) -> list[ProblemRollouts]:
    """Have `sampler` sample what `rollouts_path` lacks, a line a problem; all of it in `problems`' order.

    `progress` shows how many problems are done and the share of right ends so far.
    """
    with closing(RolloutFile(rollouts_path, header, problems)) as file:
        return await _go_on(file, problems, plan, sampler, progress)


async def _go_on(
    file: RolloutFile,
    problems: Sequence[Problem],
    plan: SamplingPlan,
    sampler: Sampler,
    progress: WorkProgress,
) -> list[ProblemRollouts]:
    plan = replace(plan, stored=file.stored_tokens)
    units: dict[str, ProblemRollouts] = {}
    right = ends = 0

    def show() -> None:
        done = sum(problem.id in units for problem in problems)
        note = f"{right / ends:.1%} right" if ends else ""
        progress.report("problems", done, len(problems), note)

    def count(unit: ProblemRollouts) -> None:
        nonlocal right, ends
        units[unit.problem_id] = unit
        finished = [rollout for rollout in unit.rollouts if rollout.finished]
        ends += len(finished)
        right += sum(unit.right(rollout) for rollout in finished)

    def on_done(unit: ProblemRollouts) -> None:
        file.append(unit)
        count(unit)
        show()

    for unit in file.done:
        count(unit)
    missing = [(problem, 0) for problem in problems if problem.id not in units]
    show()
    if missing:
        await sampler(missing, plan, on_done)
    return [units[problem.id] for problem in problems]


def write_collected(path: Path, collected: Collected) -> None:
    """Write the examples. Raises `InputError` if there are none."""
    if not collected.examples:
        raise InputError("; ".join(["no examples", *collected.lines()[1:]]))
    write_examples(path, collected.examples)
