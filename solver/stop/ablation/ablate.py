"""Ablation: training and evaluation again and again over saved data, one thing changed at a time.

    data, evaluation rollouts -> base -> (change one thing -> train -> score the same rollouts) ...

Nothing is sampled. The validation problems are the same at every point, and so are the problems that
are evaluated on; adapters of points are measured however bad they are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import Accelerator  # type: ignore[import-untyped]

from solver.adapter.folder import SPEC, load_adapter
from solver.cli.progress import WorkProgress
from solver.errors import InputError, SolverError
from solver.stop.ablation.grid import BASE, UNTRAINED, Point
from solver.stop.ablation.results import Result, ResultFile
from solver.stop.ablation.scores import Evaluation, values_of
from solver.stop.ablation.task import Ablation, Task, make_task
from solver.stop.training.base import load_base
from solver.stop.training.shelf import MemoryShelf, Shelf
from solver.stop.training.train import GIB, checkpoint_folder, open_shelf, train


def run_points(
    ablation: Ablation,
    points: Sequence[Point],
    results: ResultFile,
    progress: WorkProgress,
    on_point: Callable[[Point, Result | str], None],
) -> dict[Point, str]:
    """Run the points that `results` does not hold; returns why some could not be run.

    `on_point` hears each result, or the reason. A base that cannot be trained raises.
    """
    failed: dict[Point, str] = {}
    evaluation: Evaluation | None = None
    for number, point in enumerate(points):
        progress.report("points", number, len(points), point.name)
        if (point.axis, point.value) in results.done:
            continue
        if evaluation is None:
            progress.report("loading the model")
            device = Accelerator(cpu=ablation.cpu).device
            model = load_base(ablation.base, ablation.recipe, device).model
            evaluation = Evaluation(model, ablation.evaluation, _shelves(ablation))
        try:
            result = _run(ablation, point, evaluation, progress)
        except SolverError as error:
            if point.axis == BASE:
                raise
            failed[point] = str(error)
            on_point(point, failed[point])
            continue
        results.append(result)
        on_point(point, result)
    progress.report("points", len(points), len(points))
    return failed


def _run(
    ablation: Ablation, point: Point, evaluation: Evaluation, progress: WorkProgress
) -> Result:
    cpu_began = time.process_time()
    task = make_task(ablation, point)
    kept = BASE if point.axis in UNTRAINED else point.name  # the point whose adapter is used
    folder = ablation.work / kept
    seconds = 0.0
    if point.axis not in UNTRAINED or not (folder / SPEC).is_file():
        began = time.perf_counter()
        _train(ablation, task, folder, progress)
        seconds = time.perf_counter() - began
    loaded = load_adapter(folder, ablation.base)
    progress.report("evaluating")
    marked = evaluation.marked(task.evaluated_at, loaded, task.families)
    if not marked:
        raise InputError("no evaluation problem is of these families")
    problem_ids, values = values_of(marked, ablation.keep, ablation.recipe.seed)
    if kept != BASE:
        shutil.rmtree(folder)
    spec = loaded.spec
    assert spec.training is not None and spec.validation is not None, "it was trained here"
    return Result(
        axis=point.axis,
        value=point.value,
        families=point.families,
        mark=task.evaluated_at,
        num_problems=spec.training.num_problems,
        num_examples=spec.training.num_examples,
        best_epoch=spec.training.best_epoch,
        num_epochs=len(spec.training.epochs),
        validation=spec.validation,
        seconds=seconds,
        cpu_seconds=time.process_time() - cpu_began,
        problem_ids=problem_ids,
        values=values,
    )


def _shelves(ablation: Ablation) -> Callable[[], Shelf]:
    """Where the prefixes of an evaluation are kept: one folder for all marks, or memory for one at a time."""
    if ablation.kv is None:
        return lambda: MemoryShelf(ablation.recipe.cache_gib * GIB)
    shelf = open_shelf(ablation.kv / "evaluation", ablation.base, ablation.recipe)
    return lambda: shelf


def _train(ablation: Ablation, task: Task, folder: Path, progress: WorkProgress) -> None:
    train(
        task.training,
        ablation.base,
        folder,
        task.recipe,
        marks=[task.mark],
        validation=task.validation,
        resume=checkpoint_folder(folder).is_dir(),
        kv=None if ablation.kv is None else ablation.kv / "training",
        cpu=ablation.cpu,
        progress=progress,
    )
    folder.with_name(f"{folder.name}-curve.png").unlink(missing_ok=True)
