"""A model folder that cannot be used gives one line and exit code 2, before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from solver.embedded.paths import WEIGHTS
from solver.run import main

EXAMPLES = Path(__file__).parents[2] / "examples" / "problems.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(WEIGHTS, copy)
    return copy


def refused(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> str:
    code = main([
        str(EXAMPLES), "--model", str(model), "--output", str(tmp_path / "a.csv"),
        "--run-dir", str(tmp_path / "run"),
    ])  # fmt: skip
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "a.csv").exists()
    assert not (tmp_path / "run").exists()
    return errors


def test_missing_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nowhere" in refused(capsys, tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_parts(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, missing: str
) -> None:
    (folder / missing).unlink()
    refused(capsys, folder, tmp_path)


def test_corrupt_safetensors(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "safetensors" in refused(capsys, folder, tmp_path)


def test_no_chat_template(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert "chat template" in refused(capsys, folder, tmp_path)
