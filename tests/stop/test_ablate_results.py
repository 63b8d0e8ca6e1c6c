"""The ablation: that its numbers are right, and that the command goes on where it was."""

from __future__ import annotations

import csv
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from solver.adapter.combine import STATISTICS, Combiner
from solver.adapter.folder import LoadedAdapter
from solver.adapter.gate import StopGate
from solver.adapter.score import score_prefixes
from solver.adapter.spec import Metrics, StopSpec
from solver.errors import ConfigError, InputError
from solver.policy.statistics import Interval
from solver.stop.__main__ import main
from solver.stop.ablation import ablate as ablate_module
from solver.stop.ablation.grid import BASE
from solver.stop.ablation.results import Result, ResultFile, Values
from solver.stop.ablation.scores import Evaluation, values_of
from solver.stop.ablation.table import difference_of, interval_of, pooled
from solver.stop.evaluation.compare import ALL, row
from solver.stop.rollouts.collect import label
from solver.stop.rollouts.examples import write_examples
from solver.stop.training.shelf import MemoryShelf
from tests.support.tiny_models import STOP_IDS, loud_adapter, tiny_model
from tests.support.units import MARK, save_units, units_of

QUICK = ["stop_token_ids=36,37", "rank=4", "learning_rate=2e-2", "warmup_steps=4",
         "batch_size=32", "epochs=2", "validation_share=0.25"]  # fmt: skip


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
    evaluation = Evaluation(model, units, lambda: MemoryShelf(1e4))  # some are encoded anew
    loaded = LoadedAdapter(spec, adapter)
    evaluation.marked(2, loaded)
    marked = evaluation.marked(MARK, loaded)
    prefixes = [p.token_ids for r in units[5].rollouts if (p := units[5].prefix(r, MARK))]
    with StopGate.attach(model, adapter) as gate:
        expected = score_prefixes(model, gate, prefixes).tolist()
    assert marked[5].scores["stop"] == pytest.approx(expected, abs=0.05)
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
    with closing(ResultFile(path, identity)) as file:
        file.append(result)
    with path.open("ab") as torn:
        torn.write(b'{"axis":"rank","val')
    with closing(ResultFile(path, identity)) as again:
        assert again.done == {(BASE, BASE): result}
        again.append(result.model_copy(update={"axis": "rank", "value": "8"}))
        with pytest.raises(InputError, match="in use by a command that has not ended"):
            ResultFile(path, identity)
    with closing(ResultFile(path, identity)) as third:
        assert list(third.done) == [(BASE, BASE), ("rank", "8")]
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

    report = re.sub(" +", " ", (out / "README.md").read_text())
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


def test_the_curve_of_small_data(
    files: tuple[Path, Path], llama_folder: Path, tmp_path: Path
) -> None:
    """From rollouts, cut at a mark; the base model's prefix KV stays on disk."""
    rollouts = files[0].with_name("data.jsonl.rollouts.jsonl")
    out, kv = tmp_path / "out", tmp_path / "kv"
    curve = ("--only", "problems", "--values", "problems=6,12,99", "--mark", "4", "--kv", str(kv))
    assert command((rollouts, files[1]), llama_folder, out, *curve, "--quiet") == 0
    rows = table(out)
    assert {value for axis, value, _ in rows if axis == "problems"} == {"6", "12"}
    assert rows["problems", "6", "stop"]["trained_problems"] == "6"
    assert "problems to train on" in (out / "README.md").read_text()
    for part in ("training", "evaluation"):
        assert (kv / part / "prefixes.bin").stat().st_size


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
        (["--only", "depth"], "the axes are noise"),
        (["--values", "problems"], "--values takes axis=numbers"),
        (["--values", "problems=few"], "--values takes axis=numbers"),
        (["--values", "depth=3"], "the axes are noise"),
        (["--grid", "huge"], "--grid is small or full"),
        (["--recipe", "rank"], "--recipe takes name=value"),
        (["--recipe", "rank=0"], "rank = '0': input should be greater than"),
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
