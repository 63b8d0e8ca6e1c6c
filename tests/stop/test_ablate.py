"""The ablation: what each point changes, in the data, in the recipe and in where it is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from solver.adapter.folder import load_adapter
from solver.adapter.gate import StopGate
from solver.adapter.score import score_prefixes
from solver.errors import ConfigError, InputError
from solver.stop.ablation import ablate as ablate_module
from solver.stop.ablation.data import (
    Material,
    fewer_ends,
    fewer_problems,
    flip_labels,
    read_material,
    rebalance,
    without_families,
)
from solver.stop.ablation.grid import AXES, BASE, GRIDS, Facts, Point, plan_points
from solver.stop.ablation.task import Ablation, make_task
from solver.stop.rollouts.collect import label
from solver.stop.rollouts.examples import StopExample, write_examples
from solver.stop.training.recipe import Recipe
from tests.support.progress import HeardProgress
from tests.support.tiny_models import tiny_model
from tests.support.units import KINDS, MARK, STORED, save_units, units_of


def example(soft_label: float, **fields: Any) -> StopExample:
    return StopExample(prefix_token_ids=(1, 2), soft_label=soft_label, **fields)


# What is changed in the data


def test_noise_flips_more_at_a_higher_rate() -> None:
    clean = [example(float(i % 2), num_rollouts=1, num_correct=i % 2) for i in range(400)]
    flipped = {
        rate: {i for i, e in enumerate(flip_labels(clean, rate, 3)) if e.soft_label != i % 2}
        for rate in (0.0, 0.1, 0.3)
    }
    assert not flipped[0.0]
    assert 20 < len(flipped[0.1]) < 65 < len(flipped[0.3]) < 160
    assert flipped[0.1] < flipped[0.3]
    one = next(iter(flipped[0.1]))
    assert flip_labels(clean, 0.1, 3)[one].num_rollouts is None, "no counts stand behind it"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_balance_is_exact_for_soft_labels_and_loses_no_prefix(share: float) -> None:
    given = [example(s, weight=w) for s, w in ((1, 1), (0, 2), (0.25, 4), (0.5, 1), (0, 3))]
    changed = rebalance(given, share)
    total = sum(e.weight for e in changed)
    assert total == pytest.approx(sum(e.weight for e in given))
    assert sum(e.weight * e.soft_label for e in changed) / total == pytest.approx(share)
    assert [e.soft_label in (0, 1) for e in changed] == [True, True, False, False, True]
    assert changed[4].weight / changed[1].weight == pytest.approx(3 / 2)
    with pytest.raises(InputError, match="cannot be rebalanced"):
        rebalance(given[1:2], share)


def test_smaller_sets_of_problems_are_part_of_larger_ones() -> None:
    given = [example(0, problem_id=f"p{i % 20}") for i in range(60)]
    few, more = (fewer_problems(given, count, 0) for count in (5, 10))
    ids = [{e.problem_id for e in part} for part in (few, more)]
    assert (len(few), len(more)) == (15, 30)
    assert ids[0] < ids[1]
    assert ids[0] != {e.problem_id for e in fewer_problems(given, 5, 1)}


def test_fewer_ends_are_drawn_from_the_prefixs_own() -> None:
    whole = [example(0.5, num_rollouts=4, num_correct=2, weight=4) for _ in range(200)]
    single, unknown = example(1, num_rollouts=1, num_correct=1), example(0.3)
    *drawn, same, known = fewer_ends([*whole, single, unknown], 2, 0)
    labels = [e.soft_label for e in drawn]
    assert {*labels} == {0, 0.5, 1}
    # Without replacement: both of the two right ones in 1/6 of the draws, not in 1/4.
    assert 15 < labels.count(1) < 52
    assert all((e.num_rollouts, e.weight) == (2, 4) for e in drawn)
    assert (same, known) == (single, unknown)


def test_families_are_left_out() -> None:
    given = [example(0, family=family) for family in ("a", "b", None, "c")]
    assert [e.family for e in without_families(given, ("a", "c"))] == ["b", None]


# Where the data come from


def test_material(tmp_path: Path) -> None:
    units = units_of(5, "p")
    data, beside = tmp_path / "d.jsonl", tmp_path / "d.jsonl.rollouts.jsonl"
    kept = [e for unit in units[:3] for e in label(unit, MARK)]
    own = [e.model_copy(update={"soft_label": 0.75}) for e in kept]
    write_examples(data, own)
    alone = read_material(data, None, None)
    assert (alone.mark, alone.units, alone.stored_tokens) == (MARK, (), 0)
    with pytest.raises(InputError, match=r"was cut at 4: cut at 3 it needs d\.jsonl"):
        read_material(data, None, 3)

    save_units(beside, units)
    found = read_material(data, None, None)
    assert list(found.examples) == own, "the user's own rows count, whatever the rollouts say"
    assert [unit.problem_id for unit in found.units] == ["p0", "p1", "p2"]
    assert {len(e.logprobs or ()) for e in found.at(2)} == {2}
    assert {e.problem_id for e in found.at(6)} == {"p0", "p1", "p2"}
    assert {e.soft_label for e in read_material(data, None, 3).examples} == {0, 1}
    assert "K = 1" in found.note()
    assert "67% of the prefixes seen have one end only" in found.note()
    with pytest.raises(ConfigError, match="holds 6 tokens a rollout: --mark 7"):
        read_material(data, None, 7)

    from_rollouts = read_material(beside, None, MARK)
    assert len({e.problem_id for e in from_rollouts.examples}) == 5
    assert "K = 3" in Material(tuple(own), MARK, (), 0, 3).note()
    right = [u.model_copy(update={"answer": 999}) for u in units]
    with pytest.raises(InputError, match="no problem that is right now and then"):
        read_material(save_units(tmp_path / "no.rollouts.jsonl", right), None, None)


# Which points there are


FACTS = Facts(
    mark=32, longest_prefix=48, longest_mark=32, right_share=0.4, num_problems=612, most_ends=5,
    rank=16, stop_tokens=4, seed=0, families=KINDS,
)  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS)
def test_points(grid: str) -> None:
    points, notes = plan_points(grid, (), FACTS)
    assert points[0] == Point(BASE, BASE)
    assert {point.axis for point in points} == {BASE, *AXES}
    assert len({point.name for point in points}) == len(points), "names are folders"
    assert not {Point("rank", "16"), Point("stop_tokens", "4"), Point("mark", "32")} & {*points}
    assert max(int(p.value) for p in points if p.axis == "prefix") == 48
    assert max(int(p.value) for p in points if p.axis == "mark") == 24
    assert "cut at 32 tokens" in notes["mark"]
    assert max(int(p.value) for p in points if p.axis == "continuations") < 5
    folds = [point.families for point in points if point.axis == "transfer"]
    assert sorted(family for fold in folds for family in fold) == sorted(KINDS)
    marks = [point.value for point in points if point.axis in ("prefix", "mark")]
    assert marks == sorted(marks, key=int), "prefix KV is kept for one mark at a time"
    trained = [p for p in points if p.axis not in ("prefix", "problems")]
    if grid == "small":
        assert len(trained) <= 18, "at 2.5 minutes each they fit an hour"


def test_given_values_are_meant_as_they_are() -> None:
    given = {"problems": (100.0, 400.0, 700.0), "mark": (16.0, 24.0), "seed": (3.0,)}
    points, notes = plan_points("small", tuple(given), FACTS, given)
    assert {(p.axis, p.value) for p in points[1:]} == {
        ("problems", "100"), ("problems", "400"), ("mark", "16"), ("mark", "24"), ("seed", "3"),
    }  # fmt: skip
    assert "612 problems" in notes["problems"]
    with pytest.raises(ConfigError, match="not 'depth'"):
        plan_points("small", (), FACTS, {"depth": (1.0,)})


def test_a_large_seed_keeps_its_digits() -> None:
    points, _ = plan_points("small", ("seed",), FACTS, {"seed": (20261122.0,)})
    assert points[1].value == "20261122"


@pytest.mark.parametrize(
    ("axis", "number"),
    [
        ("rank", 0),
        ("rank", 1.5),
        ("balance", 0),
        ("balance", 1),
        ("continuations", 0),
        ("mark", -8),
    ],
)
def test_values_that_cannot_be(axis: str, number: float) -> None:
    with pytest.raises(ConfigError, match=f"--values {axis}: .* not {number:g}"):
        plan_points("small", (axis,), FACTS, {axis: (number,)})


def test_points_that_the_data_do_not_allow() -> None:
    facts = {"most_ends": 1, "longest_mark": 0, "families": {}}
    points, notes = plan_points(
        "small", (), Facts(**{f: getattr(FACTS, f) for f in FACTS.__slots__} | facts)
    )
    assert not {"continuations", "mark", "transfer"} & {point.axis for point in points}
    assert {"continuations", "mark", "transfer"} <= notes.keys()
    assert [p.axis for p in plan_points("full", ("head_only",), FACTS)[0]] == [BASE, "head_only"]
    with pytest.raises(ConfigError, match="not 'depth'"):
        plan_points("small", ("depth",), FACTS)
    with pytest.raises(ConfigError, match="--grid is small or full"):
        plan_points("huge", (), FACTS)


def ablation_of(work: Path, base: Path, **recipe: Any) -> Ablation:
    units = units_of(16, "p")
    examples = tuple(e for unit in units for e in label(unit, MARK))
    fields: dict[str, Any] = {
        "stop_token_ids": (36, 37), "rank": 4, "auroc_floor": 0.0, "validation_share": 0.25,
        "epochs": 1, **recipe,
    }  # fmt: skip
    material = Material(examples, MARK, tuple(units), STORED, 1)
    evaluation = tuple(units_of(4, "e"))
    return Ablation(material, evaluation, base, Recipe(**fields), 2, work, cpu=True)


def test_tasks(tmp_path: Path) -> None:
    ablation = ablation_of(tmp_path, tmp_path)

    def task(axis: str, value: str, families: tuple[str, ...] = ()) -> Any:
        return make_task(ablation, Point(axis, value, families))

    base = task(BASE, BASE)
    held_out = {e.problem_id for e in base.validation}
    assert len(held_out) == 4
    assert not held_out & {e.problem_id for e in base.training}
    noisy = task("noise", "0.5")
    assert noisy.training != base.training and noisy.validation != base.validation
    few = task("problems", "5")
    assert len({e.problem_id for e in few.training}) == 5 and few.validation == base.validation
    balanced = task("balance", "0.9")
    assert balanced.validation == base.validation
    ends = task("continuations", "1")
    assert {e.num_rollouts for e in ends.training} == {1} != {e.num_rollouts for e in base.training}
    without = task("transfer", "1of2", ("coins", "sums"))
    assert {e.family for e in without.training + without.validation} == {"dice", "walks"}
    assert without.families == ("coins", "sums")
    cut = task("mark", "2")
    assert (cut.mark, cut.evaluated_at) == (2, 2)
    assert {e.problem_id for e in cut.validation} == held_out
    assert {len(e.logprobs) for e in cut.training} == {2}
    elsewhere = task("prefix", "2")
    assert (elsewhere.mark, elsewhere.evaluated_at) == (MARK, 2)
    assert elsewhere.training == base.training
    assert task("rank", "8").recipe.rank == 8
    assert task("stop_tokens", "1").recipe.stop_token_ids == (36,)
    assert task("seed", "3").recipe.seed == 3
    with pytest.raises(ConfigError, match="2 \\[STOP\\] ids were given: 8 cannot be tried"):
        task("stop_tokens", "8")
    worded = ablation_of(tmp_path, tmp_path, stop_text="Correct:")
    assert worded.facts(STORED).stop_tokens == "Correct:"
    with pytest.raises(ConfigError, match="begin as a text: no other number"):
        make_task(worded, Point("stop_tokens", "8"))
    scaled = ablation_of(tmp_path, tmp_path, alpha=2.0)
    assert make_task(scaled, Point("rank", "8")).recipe.alpha == 4.0


def test_head_only_trains_no_delta_that_counts(tmp_path: Path, llama_folder: Path) -> None:
    ablation = ablation_of(tmp_path, llama_folder, epochs=2)
    task = make_task(ablation, Point("head_only", "1"))
    ablate_module._train(ablation, task, tmp_path / "adapter", HeardProgress())
    adapter = load_adapter(tmp_path / "adapter", llama_folder).adapter
    model, prefixes = tiny_model("llama"), [e.prefix_token_ids for e in task.validation]
    with StopGate.attach(model, adapter) as gate:
        scores = score_prefixes(model, gate, prefixes)
        for delta in adapter.delta_by_path.values():
            delta.lora_B.data.zero_()
        assert torch.equal(score_prefixes(model, gate, prefixes), scores)
