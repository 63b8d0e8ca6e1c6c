"""Trains an adapter on examples and writes its folder with stop.json.

The old adapter is replaced only by a finished training that reached the AUROC floor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from accelerate import Accelerator  # type: ignore[import-untyped]

from solver.adapter.combine import Combiner
from solver.adapter.fingerprint import fingerprint
from solver.adapter.folder import SPEC, save_adapter
from solver.adapter.norms import norms_fingerprint
from solver.adapter.score import score_prefixes
from solver.adapter.spec import Handshake, StopSpec, TrainingSummary
from solver.cli.progress import WorkProgress
from solver.errors import ConfigError, InputError
from solver.files.whole import check_replaceable
from solver.stop.rollouts.examples import StopExample, check_classes, digest
from solver.stop.training.base import load_base
from solver.stop.training.batches import split_by_problem
from solver.stop.training.checkpoint import discard_checkpoint
from solver.stop.training.crossfit import crossfit_combiner
from solver.stop.training.curve import draw_curve
from solver.stop.training.epochs import run_epochs
from solver.stop.training.learner import Learner, TrainingFailed
from solver.stop.training.probe import fit_probe
from solver.stop.training.recipe import Recipe
from solver.stop.training.shelf import FolderShelf, MemoryShelf, Shelf

GIB = 1024**3


def checkpoint_folder(out: Path) -> Path:
    """Where an unfinished training of `out` is kept."""
    return out.with_name(f"{out.name}.checkpoint")


def train(
    data: Sequence[StopExample],
    base: Path,
    out: Path,
    recipe: Recipe,
    *,
    marks: Sequence[int],
    dialect: str = "fenced",
    prompt: str = "bare",
    validation: Sequence[StopExample] | None = None,
    base_name: str | None = None,
    resume: bool = False,
    kv: Path | None = None,
    cpu: bool = False,
    progress: WorkProgress | None = None,
    on_epoch: Callable[[str], None] = lambda _: None,
) -> StopSpec:
    """Train on `data` and write the adapter folder `out`; returns what stop.json says.

    The prefixes were cut at `marks`, the first of which is the one to run at unless another is asked for;
    without any they are whole trajectories, and the adapter is one of the last check.
    Without `validation`, a share of the problems is held out. The base model's prefix KV is kept in the
    folder `kv`, from where later trainings take it, or in memory. `progress` shows how the work gets on
    (None: nothing is shown), `on_epoch` is told of each epoch in one line. Raises `InputError` or
    `ModelError` for what cannot be trained on, and `TrainingFailed` for
    a loss that is not finite or an AUROC below the floor.
    """
    progress = progress or WorkProgress(quiet=True)
    accelerator, out = Accelerator(cpu=cpu), out.absolute()
    check_replaceable(out, SPEC)
    training, held_out = _parts(data, validation, recipe)
    progress.report("loading the model")
    loaded = load_base(base, recipe, accelerator.device, at_end=not marks)
    folder = checkpoint_folder(out)
    identity: dict[str, object] = {
        "recipe": recipe.model_dump(mode="json", exclude={"auroc_floor"}),
        "data": digest([*training, *held_out]),
        "base model": fingerprint(base),
    }
    with ExitStack() as closing:
        shelf: Shelf = MemoryShelf(recipe.cache_gib * GIB)
        if kv is not None and accelerator.num_processes > 1:
            raise ConfigError("a folder of prefix KV is written by one process: train without --kv")
        if kv is not None:
            shelf = closing.enter_context(contextlib.closing(open_shelf(kv, base, recipe)))
        learner = Learner(accelerator, loaded, training, held_out, recipe, shelf)
        closing.enter_context(learner.gate)
        state = run_epochs(
            learner, folder, identity, resume=resume, progress=progress, on_epoch=on_epoch
        )
        best = state.best.validation
        if accelerator.is_main_process:
            picture = out.with_name(f"{out.name}-curve.png")
            picture.parent.mkdir(parents=True, exist_ok=True)
            draw_curve(picture, state.epochs, state.best_epoch, recipe.auroc_floor)
        reached = best.gate_auroc
        if reached is None or not reached >= recipe.auroc_floor:
            shown = "undefined" if reached is None else f"{reached:.3f}"
            raise TrainingFailed(
                f"the validation AUROC is {shown}, below the floor of {recipe.auroc_floor:g}: "
                f"{out} is left as it was; more problems help most, then more epochs. --resume with a"
                " lower --auroc-floor takes it as it is"
            )
        probe, quality = fit_probe(learner)
        spec = StopSpec(
            base_model=base_name or base.absolute().name,
            fingerprint=str(identity["base model"]),
            norms=norms_fingerprint(base),
            hidden_size=learner.adapter.embeddings.shape[1],
            stop_token_ids=loaded.stop_token_ids,
            mark=marks[0] if marks else None,
            other_marks=tuple(marks[1:]),
            dialect=dialect,
            prompt=prompt,
            rank=recipe.rank,
            alpha=learner.adapter.alpha,
            targets=learner.targets,
            training=TrainingSummary(
                num_examples=len(training),
                num_problems=len({example.problem_id for example in training}),
                data_sha256=str(identity["data"]),
                best_epoch=state.best_epoch,
                epochs=tuple(state.epochs),
                recipe=recipe.model_dump(mode="json"),
            ),
            validation=best,
            combiner=_fit_combiner(learner),
            probe=quality,
            handshake=_handshake(learner),
        )
        if accelerator.is_main_process:
            save_adapter(out, learner.adapter, spec, probe)
            discard_checkpoint(folder)
    accelerator.wait_for_everyone()
    return spec


def open_shelf(folder: Path, base: Path, recipe: Recipe) -> FolderShelf:
    """The folder that keeps the base model's prefix KV. Raises `ConfigError` if it is another model's."""
    return FolderShelf(folder, {"base model": fingerprint(base), "dtype": recipe.dtype})


def _parts(
    data: Sequence[StopExample], validation: Sequence[StopExample] | None, recipe: Recipe
) -> tuple[list[StopExample], list[StopExample]]:
    """Training and validation examples. Raises `InputError` if they share a problem or one is empty."""
    if validation is None:
        training, held_out = split_by_problem(data, recipe.validation_share, recipe.seed)
    else:
        training, held_out = list(data), list(validation)
        if shared := {e.problem_id for e in training} & {e.problem_id for e in held_out}:
            raise InputError(f"problem {min(shared)} is both in training and in validation")
    check_classes(training, "the training part")
    check_classes(held_out, "the validation part")
    return training, held_out


def _fit_combiner(learner: Learner) -> Combiner | None:
    """stop+confidence on the best epoch's validation logits, if log-probabilities are known."""
    if any(example.logprobs is None for example in learner.validation):
        return None
    recipe = learner.recipe
    return crossfit_combiner(
        learner.validation_logits(), learner.validation, recipe.window, recipe.combiner_l2
    )


def _handshake(learner: Learner) -> Handshake:
    """The first validation prefix and its score by the reference scorer."""
    prefix = learner.validation[0].prefix_token_ids
    logit = score_prefixes(learner.model, learner.gate, [prefix])
    return Handshake(prefix_token_ids=prefix, logit=float(logit[0]), dtype=learner.recipe.dtype)
