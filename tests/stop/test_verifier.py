"""A verifier learns what a text shows, and is read back by the reward scorer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from solver.errors import ConfigError, InputError
from solver.scorers.reward import RewardScorer
from solver.stop.__main__ import main
from solver.stop.rollouts.examples import StopExample, write_examples
from solver.stop.training.batches import split_by_problem
from solver.stop.training.verifier import VerifierRecipe, train_verifier
from tests.scorers.conftest import save_tiny_model, written
from tests.support import byte_tokenizer
from tests.support.progress import HeardProgress
from tests.support.rig import DIALECT
from tests.support.units import save_units, units_of

RECIPE = VerifierRecipe(hidden=16, layers=1, heads=2, epochs=6, batch_size=16, learning_rate=0.01)


def examples(num_problems: int = 12) -> list[StopExample]:
    """Prefixes with a "+" end right, those with a "-" do not."""
    return [
        StopExample(
            prefix_token_ids=tuple(written(0, f"so {sign}{tail}", statement=f"{name}?").token_ids),
            soft_label=float(sign == "+"),
            problem_id=f"q{name}",
        )
        for name in range(num_problems)
        for sign in "+-"
        for tail in ("", " a", " bc")
    ]


async def test_it_learns_and_is_read_back(tmp_path: Path) -> None:
    progress = HeardProgress()
    metrics = train_verifier(
        examples(), DIALECT, byte_tokenizer(), tmp_path / "v", RECIPE, progress
    )
    said = progress.output.getvalue().splitlines()
    assert [line.partition(":")[0] for line in said] == [f"epoch {n} of 6" for n in range(1, 7)]
    assert [done for _, done, _, _ in progress.reports] == list(
        range(1, progress.reports[0][2] + 1)
    )
    assert metrics.within_auroc is not None
    assert metrics.within_auroc > 0.95
    scorer = RewardScorer(tmp_path / "v", DIALECT)
    await scorer.load()
    trajectories = [written(0, "so -", "99?"), written(1, "so +", "99?")]
    bad, good = await scorer.score(trajectories, math.inf)
    assert good > bad


def test_ten_steps(tmp_path: Path) -> None:
    """Its warm-up is one step, by which torch's schedule would divide by zero."""
    train, _ = split_by_problem(examples(), RECIPE.validation_share, RECIPE.seed)
    recipe = replace(RECIPE, epochs=5, batch_size=-(-len(train) // 2))
    progress = HeardProgress()
    train_verifier(examples(), DIALECT, byte_tokenizer(), tmp_path / "v", recipe, progress)
    assert progress.reports[0][2] == 10


def test_a_folder_that_holds_something_else_is_refused_before_the_training(tmp_path: Path) -> None:
    out, progress = tmp_path / "v", HeardProgress()
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        train_verifier(examples(), DIALECT, byte_tokenizer(), out, RECIPE, progress)
    assert not progress.reports and [file.name for file in out.iterdir()] == ["thesis.tex"]


async def test_it_may_begin_with_a_language_model(tmp_path: Path) -> None:
    recipe = replace(RECIPE, start=save_tiny_model(tmp_path / "base"), epochs=4)
    metrics = train_verifier(
        examples(), DIALECT, byte_tokenizer(), tmp_path / "v", recipe, HeardProgress()
    )
    assert metrics.within_auroc is not None
    assert metrics.within_auroc > 0.95
    scorer = RewardScorer(tmp_path / "v", DIALECT)
    await scorer.load()
    bad, good = await scorer.score([written(0, "so -"), written(1, "so +")], math.inf)
    assert good > bad


def test_the_same_seed_is_the_same_model(tmp_path: Path) -> None:
    for name in "ab":
        train_verifier(
            examples(4), DIALECT, byte_tokenizer(), tmp_path / name, RECIPE, HeardProgress()
        )
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert one == other


def test_refusals(tmp_path: Path) -> None:
    def train(given: list[StopExample]) -> None:
        train_verifier(given, DIALECT, byte_tokenizer(), tmp_path / "v", RECIPE, HeardProgress())

    with pytest.raises(InputError, match="of one problem"):
        train(examples(1))
    with pytest.raises(InputError, match="every label is 1"):
        train([example for example in examples() if example.soft_label == 1])
    assert not (tmp_path / "v").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_tiny_model(tmp_path / "base")
    write_examples(tmp_path / "data.jsonl", examples(6))
    flags = ["--base", str(base), "--epochs", "1", "--hidden", "16", "--layers", "1", "--quiet"]
    data, out = str(tmp_path / "data.jsonl"), str(tmp_path / "v")
    assert main(["train-verifier", data, "--out", out, *flags]) == 0
    assert "validation Brier" in capsys.readouterr().out
    assert (tmp_path / "v" / "model.safetensors").exists()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("x")
    assert main(["train-verifier", data, "--out", str(taken), *flags]) == 2
    assert "not overwritten" in capsys.readouterr().err


def test_rollouts_are_cut_at_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = save_tiny_model(tmp_path / "base"), tmp_path / "v"
    rollouts = save_units(tmp_path / "a.rollouts.jsonl", units_of(16, "p"))
    flags = ["--base", str(base), "--epochs", "1", "--hidden", "16", "--layers", "1", "--quiet"]
    command = ["train-verifier", str(rollouts), "--out", str(out), *flags]
    assert main([*command, "--mark", "4,2"]) == 0
    assert (out / "model.safetensors").exists()
    capsys.readouterr()
    assert main(command) == 2
    assert "say with --mark where the rollouts" in capsys.readouterr().err
    assert main([*command, "--mark", "4", "--prompt", "tools"]) == 2
    assert "was sampled with --prompt bare, not tools" in capsys.readouterr().err
