"""The ablation: what each point changes, that it goes on where it was, and that its numbers are right."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from solver.errors import ConfigError, InputError
from solver.policy.statistics import Interval
from solver.stop import ablate as ablate_module
from solver.stop.__main__ import main
from solver.stop.ablate_data import (
    Material,
    fewer_ends,
    fewer_problems,
    flip_labels,
    read_material,
    rebalance,
    without_families,
)
from solver.stop.ablate_grid import AXES, BASE, GRIDS, Facts, Point, plan_points
from solver.stop.ablate_results import Result, ResultFile, Values
from solver.stop.ablate_scores import Evaluation, values_of
from solver.stop.ablate_table import difference_of, interval_of, pooled
from solver.stop.ablate_task import Ablation, make_task
from solver.stop.adapter import LoadedAdapter, load_adapter
from solver.stop.collect import label
from solver.stop.combine import STATISTICS, Combiner
from solver.stop.compare import ALL, row
from solver.stop.examples import StopExample, write_examples
from solver.stop.gate import StopGate
from solver.stop.recipe import Recipe
from solver.stop.rollout_file import RolloutFile, SamplingHeader
from solver.stop.rollouts import ProblemRollouts, Rollout, SavedTurn
from solver.stop.score import score_prefixes
from solver.stop.spec import Metrics, StopSpec
from solver.types import StopReason

from .conftest import STOP_IDS, loud_adapter, tiny_model

MARK, STORED, LAUNCH = 4, 6, 6
KINDS = {"coins": "tie", "dice": "tie", "sums": "common", "walks": "common"}
QUICK = ["stop_token_ids=36,37", "rank=4", "learning_rate=2e-2", "warmup_steps=4",
         "batch_size=32", "epochs=2", "validation_share=0.25"]  # fmt: skip


def units_of(count: int, name: str, launch: int = LAUNCH) -> list[ProblemRollouts]:
    """A rollout ends right if its second sampled id is 4, wrong if it is 5."""
    generator = torch.Generator().manual_seed(len(name))
    units = []
    for number in range(count):
        family = list(KINDS)[number % len(KINDS)]
        prompt = torch.randint(6, 36, (3,), generator=generator).tolist()
        rollouts = []
        for index in range(launch):
            ids = torch.randint(6, 36, (STORED,), generator=generator).tolist()
            ids[1] = 4 + (index + number) % 2
            if index == 1:
                ids = [*rollouts[0].turns[0].token_ids[:MARK], *ids[MARK:]]  # shares its prefix
            answer = 7 if ids[1] == 4 else 3
            turn = SavedTurn(token_ids=ids, logprobs=[-0.1 * (1 + i % 3) for i in ids])
            rollouts.append(
                Rollout(index=index, stop_reason=StopReason.ANSWERED, answer=answer,
                        num_sampled_tokens=STORED + 3 + index, turns=[turn])
            )  # fmt: skip
        units.append(
            ProblemRollouts(problem_id=f"{name}{number}", block=0, answer=7, rollouts=rollouts,
                            tags={"family": family, "kind": KINDS[family]}, prompt_token_ids=prompt)
        )  # fmt: skip
    return units


def header(**changes: Any) -> SamplingHeader:
    fields: dict[str, Any] = {
        "model": "m", "prompt": "bare", "seed": 0, "launch": LAUNCH, "continuations": 1,
        "stored_tokens": STORED, "share_calls": False, "sampling": {"temperature": 1.0}, **changes,
    }  # fmt: skip
    return SamplingHeader(**fields)


def save_units(path: Path, units: list[ProblemRollouts], **changes: Any) -> Path:
    file = RolloutFile(path, header(**changes))
    for unit in units:
        file.append(unit)
    file.close()
    return path


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
    rank=16, num_stop_tokens=4, seed=0, families=KINDS,
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
    scaled = ablation_of(tmp_path, tmp_path, alpha=2.0)
    assert make_task(scaled, Point("rank", "8")).recipe.alpha == 4.0


def test_head_only_trains_no_delta_that_counts(tmp_path: Path, llama_folder: Path) -> None:
    ablation = ablation_of(tmp_path, llama_folder, epochs=2)
    task = make_task(ablation, Point("head_only", "1"))
    ablate_module._train(ablation, task, tmp_path / "adapter", lambda *what: None)
    adapter = load_adapter(tmp_path / "adapter", llama_folder).adapter
    model, prefixes = tiny_model("llama"), [e.prefix_token_ids for e in task.validation]
    with StopGate.attach(model, adapter) as gate:
        scores = score_prefixes(model, gate, prefixes)
        for delta in adapter.delta_by_path.values():
            delta.lora_B.data.zero_()
        assert torch.equal(score_prefixes(model, gate, prefixes), scores)


# Whether the numbers are right


def test_scores_are_the_references_and_values_are_the_comparisons() -> None:
    model, adapter = tiny_model("llama"), loud_adapter(tiny_model("llama"))
    combiner = Combiner(
        names=("stop", *STATISTICS), means=(0.0,) * 6, scales=(1.0,) * 6,
        weights=(1.0, 2.0, 0.5, 0.0, -1.0, 0.01), bias=0.25, window=4, num_examples=10,
    )  # fmt: skip
    spec = StopSpec(
        base_model="tiny", fingerprint="0" * 64, hidden_size=32, stop_token_ids=STOP_IDS,
        mark=MARK, dialect="fenced", prompt="bare", rank=4, alpha=8.0, targets=("q_proj",),
        combiner=combiner,
    )  # fmt: skip
    units = [
        *units_of(4, "p"),
        *(unit.model_copy(update={"block": 1}) for unit in units_of(4, "q" * 2)),
    ]
    evaluation = Evaluation(model, units, cache_gib=1e-5)  # some are encoded anew
    loaded = LoadedAdapter(spec, adapter)
    evaluation.marked(2, loaded)
    marked = evaluation.marked(MARK, loaded)
    prefixes = [p.token_ids for r in units[5].rollouts if (p := units[5].prefix(r, MARK))]
    with StopGate.attach(model, adapter) as gate:
        expected = score_prefixes(model, gate, prefixes).tolist()
    assert marked[5].scores["stop"] == pytest.approx(expected, abs=1e-5)
    assert set(marked[5].scores) == {"confidence", "stop", "stop+confidence"}
    assert [u.problem_id for u in evaluation.marked(MARK, loaded, ("dice",))] == ["p1", "qq1"]

    ids, values = values_of(marked, 2, 0)
    result = result_of(ids, values)
    for method in ("none", "confidence", "stop", "stop+confidence"):
        reference = row(marked, method, 2, ALL, 0)
        assert interval_of(result, method, "average", 0) == close(reference.average)
        assert interval_of(result, method, "vote", 0) == close(reference.vote)
        if reference.within is not None:
            assert interval_of(result, method, "within", 0) == close(reference.within)
    assert values["none"].within == (None,) * 8


def close(interval: Interval) -> object:
    class Close:
        def __eq__(self, other: object) -> bool:
            numbers = [interval.value, interval.low, interval.high]
            assert isinstance(other, Interval)
            return [other.value, other.low, other.high] == pytest.approx(numbers, abs=1e-5)

    return Close()


def result_of(ids: tuple[str, ...], values: dict[str, Values], axis: str = BASE) -> Result:
    metrics = Metrics(
        loss=1, brier=1, auroc=None, within_auroc=None, num_examples=1, num_problems=1
    )
    return Result(
        axis=axis, value=axis, mark=MARK, num_problems=1, num_examples=1, best_epoch=0,
        num_epochs=1, validation=metrics, seconds=2.0, cpu_seconds=3.0, problem_ids=ids,
        values=values,
    )  # fmt: skip


def values(*numbers: float | None) -> dict[str, Values]:
    known = tuple(x or 0.0 for x in numbers)
    return {"stop": Values(average=known, vote=known, within=numbers)}


def test_differences_are_paired_over_the_problems_that_both_have() -> None:
    base = result_of(("a", "b", "c"), values(0.5, None, 0.75))
    other = result_of(("c", "a"), values(0.5, 1.0))
    found = difference_of((other, "stop"), (base, "stop"), "within", 0)
    assert found is not None
    assert found.value == pytest.approx((0.5 - 0.75 + 1.0 - 0.5) / 2)
    apart = result_of(("d",), values(1.0))
    assert difference_of((apart, "stop"), (base, "stop"), "within", 0) is None
    both = pooled([other, apart], "all")
    assert (both.problem_ids, both.seconds) == (("c", "a", "d"), 4.0)
    assert both.values["stop"].within == (0.5, 1.0, 1.0)
    only = interval_of(both, "stop", "average", 0, {"a"})
    assert only is not None and only.value == 1.0


def test_the_file_of_results(tmp_path: Path) -> None:
    path, identity = tmp_path / "work" / "points.jsonl", {"keep": 8, "recipe": {"ids": [1]}}
    result = result_of(("a",), values(0.5))
    ResultFile(path, identity).append(result)
    with path.open("ab") as torn:
        torn.write(b'{"axis":"rank","val')
    again = ResultFile(path, identity)
    assert again.done == {(BASE, BASE): result}
    again.append(result.model_copy(update={"axis": "rank", "value": "8"}))
    assert list(ResultFile(path, identity).done) == [(BASE, BASE), ("rank", "8")]
    with pytest.raises(ConfigError, match="another ablation \\(keep differs\\)"):
        ResultFile(path, {**identity, "keep": 4})
    path.write_text("something else\n")
    with pytest.raises(ConfigError, match="is not a file of ablation results"):
        ResultFile(path, identity)


# The command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    data = tmp_path / "data.jsonl"
    units = units_of(24, "p")
    write_examples(data, [e for unit in units for e in label(unit, MARK)])
    save_units(tmp_path / "data.jsonl.rollouts.jsonl", units)
    return data, save_units(tmp_path / "eval.rollouts.jsonl", units_of(8, "e"))


def command(files: tuple[Path, Path], base: Path, out: Path, *more: str) -> int:
    data, rollouts = files
    recipe = [flag for change in QUICK for flag in ("--recipe", change)]
    return main(
        ["ablate", str(data), "--base", str(base), "--rollouts", str(rollouts), "--out", str(out),
         "--work", str(out.with_name("work")), "--keep", "2", "--device", "cpu", *recipe, *more]
    )  # fmt: skip


def table(out: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with (out / "table.csv").open() as file:
        return {(r["axis"], r["value"], r["method"]): r for r in csv.DictReader(file)}


def test_the_command_goes_on_where_it_was(
    files: tuple[Path, Path],
    llama_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    only = ("--only", "rank,stop_tokens,prefix,mark,transfer")
    train, trained = ablate_module.train, []

    def dies_at_the_third(*arguments: Any, **options: Any) -> Any:
        trained.append(arguments[2].name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(ablate_module, "train", dies_at_the_third)
    assert command(files, llama_folder, out, *only) == 130
    assert not out.exists()
    assert command(files, llama_folder, out, *only) == 0
    assert len(trained) == len(set(trained)) + 1, "only the interrupted point is trained again"
    assert trained[:2] == ["base", "rank-64"] and "prefix-2" not in trained
    error = capsys.readouterr().err
    assert "stop_tokens-8: not done: 2 [STOP] ids were given" in error
    assert [path.name for path in (tmp_path / "work").iterdir() if path.is_dir()] == ["base"]

    report = (out / "README.md").read_text()
    for words in ("| 4 (base) | 18 |", "## rank", "## transfer", "| 2, confidence |", "all folds",
                  "Not done: 8: 2 [STOP] ids", "![axes](axes.png)", "K = 1"):  # fmt: skip
        assert words in report
    assert all((out / f"{name}.png").stat().st_size for name in ("axes", "transfer"))
    rows = table(out)
    assert {axis for axis, *_ in rows} == {
        BASE,
        "rank",
        "stop_tokens",
        "prefix",
        "mark",
        "transfer",
    }
    assert rows["mark", "6", "stop"]["problems"] == "8"
    assert rows["prefix", "2", "stop"]["train_seconds"] == "0.0"
    assert rows["transfer", "1of3", "stop"]["problems"] == "4", "two of the four families"
    assert rows[BASE, BASE, "stop"]["average_minus_base"] == ""

    shutil.rmtree(out)
    trained.clear()
    assert command(files, llama_folder, out, "--only", "rank") == 0
    assert not trained and table(out) == rows, "what is done is reported, whatever is asked for"
    capsys.readouterr()
    assert command(files, llama_folder, out, "--keep", "3") == 2
    assert "another ablation (keep differs): give another --work" in capsys.readouterr().err


def test_noise_hurts_what_can_be_learned(
    files: tuple[Path, Path], llama_folder: Path, tmp_path: Path
) -> None:
    more = [flag for change in ("epochs=30", "rank=8") for flag in ("--recipe", change)]
    assert command(files, llama_folder, tmp_path / "out", "--only", "noise", *more, "--quiet") == 0
    rows = table(tmp_path / "out")
    clean, noisy = (
        float(rows[a, v, "stop"]["within"]) for a, v in ((BASE, BASE), ("noise", "0.3"))
    )
    assert clean > 0.9 and clean > noisy
    assert float(rows[BASE, BASE, "none"]["average"]) == pytest.approx(0.5)
    assert float(rows[BASE, BASE, "stop"]["average"]) > 0.8


def test_a_transfer_test_alone(
    files: tuple[Path, Path], llama_folder: Path, tmp_path: Path
) -> None:
    """On data that are examples only: no rollouts beside them to cut anew."""
    (tmp_path / "data.jsonl.rollouts.jsonl").unlink()
    out = tmp_path / "out"
    assert command(files, llama_folder, out, "--only", "transfer,mark", "--quiet") == 0
    assert not (out / "axes.png").exists()
    assert "cannot be cut anew" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--keep", "7"], "--keep must be from 1 to the launch of 6, not 7"),
        (["--only", "depth"], "--only knows noise"),
        (["--grid", "huge"], "--grid is small or full"),
        (["--recipe", "rank"], "--recipe takes name=value"),
        (["--recipe", "rank=0"], "rank: Input should be greater than"),
        (["--device", "abacus"], "--device is auto or cpu"),
        (["--mark", "9"], "holds 6 tokens a rollout"),
    ],
)
def test_mistakes_are_one_line(
    files: tuple[Path, Path],
    llama_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: str,
) -> None:
    assert command(files, llama_folder, tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_problems_that_are_trained_on_are_not_evaluated_on(
    files: tuple[Path, Path],
    llama_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mixed = save_units(tmp_path / "mixed.rollouts.jsonl", [*units_of(2, "p"), *units_of(2, "e")])
    assert command((files[0], mixed), llama_folder, tmp_path / "out") == 2
    assert "2 problems are in the data and in the evaluation rollouts" in capsys.readouterr().err
    several = save_units(tmp_path / "k.rollouts.jsonl", units_of(2, "e"), continuations=4)
    assert command((files[0], several), llama_folder, tmp_path / "out") == 2
    assert "holds no full rollouts" in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Example: python -m solver.stop ablate data.jsonl" in shown
