from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from solver.adapter.folder import load_adapter, read_spec
from solver.errors import ConfigError
from solver.stop.__main__ import main
from solver.stop.metrics import measure
from solver.stop.rollouts.collect import label
from solver.stop.rollouts.examples import StopExample, write_examples
from solver.stop.rollouts.rollout import ProblemRollouts
from tests.support.units import LAUNCH, STORED, save_units, units_of

from .test_train import planted


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    write_examples(path, planted(160, logprobs=True))
    return path


SIZE = [
    "--stop-ids", "36,37", "--rank", "2", "--epochs", "2", "--batch", "64",
    "--auroc-floor", "0", "--device", "cpu",
]  # fmt: skip


def train_command(data: Path, base: Path, out: Path, *more: str) -> int:
    return main(["train", str(data), "--base", str(base), "--out", str(out), *SIZE, *more])


def test_train(data: Path, llama_folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "adapter"
    assert train_command(data, llama_folder, out, "--targets", "q_proj") == 0
    shown = capsys.readouterr()
    assert "validation brier" in shown.out and "stop+confidence" in shown.out
    assert "epoch 2 of 2: training loss" in shown.err
    spec = read_spec(out)
    assert (spec.mark, spec.targets, spec.stop_token_ids) == (4, ("q_proj",), (36, 37))
    assert train_command(data, llama_folder, out, "--auroc-floor", "0.99", "--quiet") == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: the validation AUROC is")
    assert shown.err.count("\n") == 1 and read_spec(out) == spec


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--mark", "3"], "has prefixes of 4 sampled tokens"),
        (["--mark", "5"], "has prefixes of 4 sampled tokens"),
        (["--mark", "3,4"], "has prefixes of 4 sampled tokens"),
        (["--mark", "0"], "--mark: whole numbers from 1 on, such as 16,32,48, not '0'"),
        (["--stop-ids", "four"], "--stop-ids are numbers"),
        (["--preset", "big"], "no preset 'big'"),
        (["--rank", "0"], "rank = 0: input should be greater than"),
        (["--device", "abacus"], "--device is auto or cpu"),
        (["--surprise", "1"], "No such option"),
        (["--validation", "missing.jsonl"], "cannot read missing.jsonl"),
    ],
)
def test_mistakes_are_one_line(
    data: Path, llama_folder: Path, tmp_path: Path, capsys: Any, flags: list[str], words: str
) -> None:
    assert train_command(data, llama_folder, tmp_path / "adapter", *flags) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "adapter").exists()


def test_rows_without_logprobs_need_a_mark(llama_folder: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "data.jsonl"
    write_examples(path, planted(40))
    assert train_command(path, llama_folder, tmp_path / "adapter") == 2
    assert "say with --mark" in capsys.readouterr().err


def test_rollouts_are_cut_at_several_marks(llama_folder: Path, tmp_path: Path, capsys: Any) -> None:
    rollouts = save_units(tmp_path / "a.rollouts.jsonl", units_of(16, "p"))
    held_out = save_units(tmp_path / "b.rollouts.jsonl", units_of(6, "q"))
    out, validation = tmp_path / "adapter", ["--validation", str(held_out)]
    assert train_command(rollouts, llama_folder, out, "--mark", "4,2", *validation) == 0
    spec = read_spec(out)
    assert (spec.mark, spec.other_marks) == (4, (2,))
    assert spec.training is not None and spec.validation is not None
    cut = [e for mark in (4, 2) for u in units_of(16, "p") for e in label(u, mark)]
    assert spec.training.num_examples == len(cut)
    assert (spec.training.num_problems, spec.validation.num_problems) == (16, 6)
    assert load_adapter(out, llama_folder, marks=[2]).spec == spec
    with pytest.raises(ConfigError, match="for mark 4 and 2, this run checks at mark 3"):
        load_adapter(out, llama_folder, marks=[3])
    capsys.readouterr()
    assert train_command(rollouts, llama_folder, out, *validation) == 2
    assert "say with --mark where the rollouts" in capsys.readouterr().err
    assert train_command(rollouts, llama_folder, out, "--mark", "4,9", *validation) == 2
    assert "holds 6 tokens a rollout: --mark 9" in capsys.readouterr().err


def whole(count: int, name: str) -> list[ProblemRollouts]:
    """Rollouts that are stored to their ends, but for the last of each problem."""
    units = []
    for unit in units_of(count, name):
        *kept, last = unit.rollouts
        kept = [one.model_copy(update={"num_sampled_tokens": STORED}) for one in kept]
        units.append(unit.model_copy(update={"rollouts": [*kept, last]}))
    return units


def test_an_adapter_of_the_last_check(llama_folder: Path, tmp_path: Path, capsys: Any) -> None:
    sampling = {"temperature": 1.0, "max_tokens": float(STORED)}
    rollouts = save_units(tmp_path / "a.rollouts.jsonl", whole(16, "p"), sampling=sampling)
    held_out = save_units(tmp_path / "b.rollouts.jsonl", whole(6, "q"), sampling=sampling)
    out, validation = tmp_path / "adapter", ["--validation", str(held_out), "--mark", "end"]
    assert train_command(rollouts, llama_folder, out, *validation) == 0
    spec = read_spec(out)
    assert (spec.mark, spec.marks, spec.combiner) == (None, (), None)
    assert spec.training is not None and spec.validation is not None
    examples = [e for u in whole(16, "p") for e in label(u, None)]
    assert spec.training.num_examples == len(examples) == 16 * (LAUNCH - 1)
    assert {len(e.prefix_token_ids) for e in examples} == {3 + STORED}
    assert {e.soft_label for e in examples} == {0.0, 1.0}
    assert spec.handshake is not None and len(spec.handshake.prefix_token_ids) == 3 + STORED
    assert load_adapter(out, llama_folder, at_end=True).spec == spec
    capsys.readouterr()
    short = save_units(
        tmp_path / "c.rollouts.jsonl", whole(6, "r"), sampling={**sampling, "max_tokens": 99.0}
    )
    assert train_command(short, llama_folder, out, "--mark", "end") == 2
    assert (
        "holds the first 6 tokens of its rollouts: sample them with --whole"
        in capsys.readouterr().err
    )
    data = tmp_path / "data.jsonl"
    write_examples(data, planted(40, logprobs=True))
    assert train_command(data, llama_folder, out, "--mark", "end") == 2
    assert "--mark end takes whole rollouts" in capsys.readouterr().err


def test_whole_rollouts_of_a_problem_are_compared_whatever_their_lengths() -> None:
    [unit] = whole(1, "p")
    longer = (
        unit.rollouts[0].turns[0].model_copy(update={"token_ids": [9] * 9, "logprobs": [-1.0] * 9})
    )
    first = unit.rollouts[0].model_copy(update={"turns": [longer], "num_sampled_tokens": 9})
    examples = label(unit.model_copy(update={"rollouts": [first, *unit.rollouts[1:]]}), None)
    assert len({len(e.prefix_token_ids) for e in examples}) == 2
    assert len({e.group for e in examples}) == 1


def test_marks_are_compared_apart() -> None:
    """Within problems, a prefix at one mark is no rival of one at another."""
    examples = [
        StopExample(prefix_token_ids=(1,) * (5 + n), soft_label=label, problem_id="p",
                    logprobs=(-1.0,) * n)
        for n, label in ((2, 1.0), (2, 0.0), (4, 1.0), (4, 0.0))
    ]  # fmt: skip
    groups = [example.group for example in examples]
    labels = [example.soft_label for example in examples]
    found = measure([1.0, 0.0, 9.0, 8.0], labels, [1.0] * 4, ["p"] * 4, groups)
    assert (found.within_auroc, found.auroc, found.num_problems) == (1.0, 0.75, 1)


def test_convert_needs_a_folder(tmp_path: Path, llama_folder: Path, capsys: Any) -> None:
    arguments = ["convert", str(tmp_path / "no"), "--base", str(llama_folder), "--out", "x"]
    assert main(arguments) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "convert"])
def test_help_shows_an_example(command: str, capsys: Any) -> None:
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: python -m solver.stop {command} " in shown


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from solver.stop.__main__ import main; main(['--help']);"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout and "convert" in done.stdout


def test_two_processes_train_the_same_adapter(
    data: Path, llama_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    """They share out each batch and add up gradients; only the first one speaks and writes."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert train_command(data, llama_folder, alone) == 0
    capsys.readouterr()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    files = ["train", str(data), "--base", str(llama_folder), "--out", str(together)]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "solver.stop", *files, *SIZE],
            env={**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    shown = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], shown
    assert "validation brier" in shown[0][0] and shown[1][0] == ""
    ours, theirs = (load_file(out / "adapter_model.safetensors") for out in (alone, together))
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-5)
