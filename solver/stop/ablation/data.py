"""The data of an ablation: labelled prefixes and their rollouts, and the changes to them. Pure.

Changes are seeded by what they do, not by the order of points, so a point is the same whenever it runs.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from solver.errors import ConfigError, InputError
from solver.stop.rollouts.collect import check_stored, label, read_cut
from solver.stop.rollouts.examples import StopExample, read_examples
from solver.stop.rollouts.file import ROLLOUTS, SamplingHeader, read_rollouts
from solver.stop.rollouts.rollout import ProblemRollouts


@dataclass(frozen=True, slots=True)
class Material:
    """Labelled prefixes at `mark`, and the rollouts they were cut from if these are known."""

    examples: tuple[StopExample, ...]
    mark: int
    units: tuple[ProblemRollouts, ...]
    stored_tokens: int  # how far the rollouts can be cut; 0 without them
    continuations: int | None  # K, if the rollouts say so

    def at(self, mark: int) -> list[StopExample]:
        """The same problems cut at another mark. Raises `InputError` beyond what is stored."""
        if mark == self.mark:
            return list(self.examples)
        return [example for unit in self.units for example in label(unit, mark)]

    def note(self) -> str:
        """Two sentences for a report: which rollouts the labels come from."""
        total = sum(example.weight for example in self.examples)
        single = sum(e.weight for e in self.examples if (e.num_rollouts or 1) == 1)
        between = sum(e.weight for e in self.examples if 0 < e.soft_label < 1)
        ends = f"{between / total:.0%} of the prefixes seen have a label between 0 and 1."
        if (self.continuations or 1) > 1:
            return (
                f"Labels rest on K = {self.continuations} continuations of each prefix (at an earlier"
                f" mark the ends of one prefix are not independent); {ends}"
            )
        return (
            "The data have K = 1: a label is the mean end of the rollouts that share the prefix;"
            f" {single / total:.0%} of the prefixes seen have one end only, {ends}"
        )


def read_material(path: Path, vocab_size: int | None, mark: int | None) -> Material:
    """Examples of `path` with the rollouts that `collect` left beside them, or rollouts alone.

    A file named *.rollouts.jsonl is read as rollouts, and problems without signal are dropped as
    `collect` drops them. Raises `InputError` or `ConfigError`.
    """
    if path.name.endswith(ROLLOUTS):
        cut = mark or read_rollouts(path)[0].stored_tokens
        header, units, examples = read_cut(path, [cut])
        return _with_rollouts(examples, cut, header, units)
    rows = tuple(read_examples(path, vocab_size))
    own = max(len(example.logprobs or ()) for example in rows)
    cut = mark or own
    if not cut:
        raise ConfigError("say with --mark after how many sampled tokens the prefixes were cut")
    anew = own not in (0, cut)
    beside = path.with_name(f"{path.name}{ROLLOUTS}")
    if not beside.is_file():
        if anew:
            raise InputError(
                f"{path} was cut at {own}: cut at {cut} it needs {beside.name} beside it"
            )
        return Material(rows, cut, (), 0, None)
    header, units = read_rollouts(beside)
    check_stored(cut, header.stored_tokens, beside)
    material = _with_rollouts(rows, cut, header, units)
    if anew:
        examples = tuple(example for unit in material.units for example in label(unit, cut))
        return replace(material, examples=examples)
    return material


def _with_rollouts(
    examples: tuple[StopExample, ...],
    mark: int,
    header: SamplingHeader,
    units: Sequence[ProblemRollouts],
) -> Material:
    problems = {example.problem_id for example in examples}
    used = tuple(unit for unit in units if unit.problem_id in problems)
    return Material(examples, mark, used, header.stored_tokens, header.continuations)


def flip_labels(examples: Sequence[StopExample], rate: float, seed: int) -> list[StopExample]:
    """Each label s becomes 1 - s with probability `rate`; a higher rate flips these and more."""
    draw = random.Random(f"noise {seed}")
    return [_labelled(e, 1 - e.soft_label) if draw.random() < rate else e for e in examples]


def rebalance(examples: Sequence[StopExample], share: float) -> list[StopExample]:
    """Weights and labels such that `share` of the ends seen is right; nothing is left out.

    A prefix of weight w and label s stands for w s right and w (1 - s) wrong ends; both sorts are
    scaled, the total stays. Raises `InputError` if there is one sort only.
    """
    right = sum(example.weight * example.soft_label for example in examples)
    wrong = sum(example.weight * (1 - example.soft_label) for example in examples)
    if not (right and wrong):
        raise InputError("the training part has right or wrong ends only: it cannot be rebalanced")
    total, changed = right + wrong, []
    for example in examples:
        hits = example.weight * example.soft_label * share * total / right
        misses = example.weight * (1 - example.soft_label) * (1 - share) * total / wrong
        renewed = _labelled(example, hits / (hits + misses))
        changed.append(renewed.model_copy(update={"weight": hits + misses}))
    return changed


def fewer_problems(examples: Sequence[StopExample], count: int, seed: int) -> list[StopExample]:
    """The examples of `count` problems drawn at random; a smaller draw is part of a larger one."""
    problems = sorted({example.problem_id for example in examples})
    random.Random(f"problems {seed}").shuffle(problems)
    kept = set(problems[:count])
    return [example for example in examples if example.problem_id in kept]


def fewer_ends(examples: Sequence[StopExample], count: int, seed: int) -> list[StopExample]:
    """Labels from at most `count` of a prefix's own ends, drawn without replacement.

    Prefixes with that many ends or fewer keep their label. Weights, the frequencies, stay.
    """
    draw, changed = random.Random(f"ends {seed}"), []
    for example in examples:
        total, right = example.num_rollouts or 1, example.num_correct
        if right is None or total <= count:
            changed.append(example)
            continue
        hits = sum(draw.sample([True] * right + [False] * (total - right), count))
        update = {"soft_label": hits / count, "num_rollouts": count, "num_correct": hits}
        changed.append(example.model_copy(update=update))
    return changed


def without_families(
    examples: Sequence[StopExample], families: Collection[str]
) -> list[StopExample]:
    """The examples of other families."""
    return [example for example in examples if example.family not in families]


def _labelled(example: StopExample, soft_label: float) -> StopExample:
    """The example with another label, and without the counts of its own label."""
    update = {"soft_label": soft_label, "num_rollouts": None, "num_correct": None}
    return example.model_copy(update=update)
