"""What the points of an ablation train on and how: the base, and the base with one change. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from solver.errors import ConfigError, InputError
from solver.stop.ablation.data import (
    Material,
    fewer_ends,
    fewer_problems,
    flip_labels,
    rebalance,
    without_families,
)
from solver.stop.ablation.grid import Facts, Point
from solver.stop.rollouts.examples import StopExample
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.training.batches import split_by_problem
from solver.stop.training.recipe import Recipe

_NO_LORA = 1e-12  # LoRA scale of "head only": far below what fp32 can add


@dataclass(frozen=True, slots=True)
class Task:
    """What a point trains on and how; it is evaluated at a mark, on `families` (all, if empty)."""

    training: list[StopExample]
    validation: list[StopExample]
    recipe: Recipe
    mark: int
    evaluated_at: int
    families: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ablation:
    """What the points have in common. `recipe` is the base's; `work` is the folder of unfinished points.

    `kv` is the folder that keeps the base model's prefix KV; without one it is kept in memory.
    """

    material: Material
    evaluation: tuple[ProblemRollouts, ...]
    base: Path
    recipe: Recipe
    keep: int
    work: Path
    cpu: bool = False
    kv: Path | None = None

    def parts(self, mark: int) -> tuple[list[StopExample], list[StopExample]]:
        """Training and validation at `mark`, split between problems as at the base's mark."""
        recipe = self.recipe
        _, validation = split_by_problem(
            self.material.examples, recipe.validation_share, recipe.seed
        )
        held_out = {example.problem_id for example in validation}
        examples = self.material.at(mark)
        sides = ([e for e in examples if (e.problem_id in held_out) is s] for s in (False, True))
        training, held = sides
        return training, held

    def facts(self, stored_tokens: int) -> Facts:
        """The facts that limit the grid; evaluation rollouts can be cut at up to `stored_tokens`."""
        training, _ = self.parts(self.material.mark)
        ids = self.recipe.stop_token_ids
        return Facts(
            mark=self.material.mark,
            longest_prefix=stored_tokens,
            longest_mark=min(stored_tokens, self.material.stored_tokens),
            right_share=sum(e.weight * e.soft_label for e in training)
            / sum(e.weight for e in training),
            num_problems=len({example.problem_id for example in training}),
            most_ends=max(example.num_rollouts or 1 for example in self.material.examples),
            rank=self.recipe.rank,
            stop_tokens=self.recipe.stop_text or len(ids or ()) or self.recipe.num_stop_tokens,
            seed=self.recipe.seed,
            families={e.family: e.kind or "" for e in self.material.examples if e.family},
        )

    def check(self) -> None:
        """Raise `InputError` if a problem is trained on and evaluated on."""
        trained_on = {example.problem_id for example in self.material.examples}
        shared = sorted(trained_on & {unit.problem_id for unit in self.evaluation})
        if shared:
            raise InputError(
                f"{len(shared)} problems are in the data and in the evaluation rollouts, the first"
                f" is {shared[0]!r}: evaluate on others"
            )


def make_task(ablation: Ablation, point: Point) -> Task:
    """The base with the point's one change. Raises `SolverError` if it cannot be made."""
    recipe, seed = ablation.recipe, ablation.recipe.seed
    mark = int(point.value) if point.axis == "mark" else ablation.material.mark
    evaluated_at = int(point.value) if point.axis == "prefix" else mark
    training, validation = ablation.parts(mark)
    match point.axis:
        case "noise":
            rate = float(point.value)
            training, validation = (flip_labels(p, rate, seed) for p in (training, validation))
        case "balance":
            training = rebalance(training, float(point.value))
        case "problems":
            training = fewer_problems(training, int(point.value), seed)
        case "continuations":
            count = int(point.value)
            training, validation = (fewer_ends(p, count, seed) for p in (training, validation))
        case "transfer":
            training, validation = (
                without_families(part, point.families) for part in (training, validation)
            )
        case "rank":
            rank = int(point.value)
            alpha = None if recipe.alpha is None else recipe.alpha * rank / recipe.rank
            recipe = _changed(recipe, rank=rank, alpha=alpha)
        case "head_only":
            recipe = _changed(recipe, alpha=_NO_LORA * recipe.rank)
        case "seed":
            recipe = _changed(recipe, seed=int(point.value))
        case "stop_tokens":
            recipe = _with_stop_tokens(recipe, int(point.value))
    return Task(training, validation, recipe, mark, evaluated_at, point.families)


def _changed(recipe: Recipe, **changes: object) -> Recipe:
    return Recipe.model_validate({**recipe.model_dump(), **changes})


def _with_stop_tokens(recipe: Recipe, count: int) -> Recipe:
    ids = recipe.stop_token_ids
    if recipe.stop_text is not None:
        raise ConfigError("the [STOP] ids begin as a text: no other number of them can be tried")
    if ids is None:
        return _changed(recipe, num_stop_tokens=count)
    if count > len(ids):
        raise ConfigError(f"{len(ids)} [STOP] ids were given: {count} cannot be tried")
    return _changed(recipe, stop_token_ids=ids[:count])
