"""The notebook: it is what its source says, its cells find their wheels, and it answers every row."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from solver.files.problems import load_problems
from submissions import headless, notebook, pagecache
from submissions.checking import answers_in
from submissions.dryrun import run_faults
from submissions.paths import located
from submissions.rehearsal import rehearse
from submissions.settings import WORKER
from tests.support.submissions import AIMO3, plan

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "notebook"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def built(folder: Path, *flags: str) -> tuple[str, dict[str, Any]]:
    assert notebook.main(["build", "--out", str(folder), *flags]) == 0
    metadata = json.loads((folder / notebook.METADATA).read_text())
    return (folder / notebook.NOTEBOOK).read_text(), metadata


def test_the_committed_files_are_built_from_the_source(tmp_path: Path) -> None:
    built(tmp_path)
    for name in (notebook.NOTEBOOK, notebook.METADATA):
        assert (tmp_path / name).read_bytes() == (COMMITTED / name).read_bytes(), (
            f"{name} is stale: python -m submissions.notebook build"
        )


def test_the_same_source_gives_the_same_bytes_and_no_traces(tmp_path: Path) -> None:
    text, _ = built(tmp_path / "one")
    assert built(tmp_path / "two")[0] == text
    made = nbformat.reads(text, as_version=4)
    nbformat.validate(made)
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert len(code) > 4
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert [cell.id for cell in made.cells] == [f"cell-{i + 1}" for i in range(len(made.cells))]
    for cell in code:
        ast.parse(cell.source)
    assert "".join(cell.source for cell in code[0:1]).startswith("import time\n\nSTARTED_AT")


def test_metadata_is_private_offline_and_on_the_competition(tmp_path: Path) -> None:
    _, metadata = built(tmp_path)
    assert metadata["code_file"] == "submission.ipynb"
    assert metadata["is_private"] is True
    assert metadata["enable_internet"] is False
    assert metadata["enable_gpu"] is True
    assert metadata["machine_shape"] == "NvidiaH100"
    assert metadata["competition_sources"] == ["ai-mathematical-olympiad-progress-prize-3"]


def test_flags_fill_in_the_metadata(tmp_path: Path) -> None:
    flags = ("--user", "ada", "--title", "My  AIMO: try 2!", "--gpu", "none", "--kernel", "bob/k")
    flags = (*flags, "--model", "o/m/transformers/default/3", "--competition", "aimo2")
    _, metadata = built(tmp_path, *flags)
    assert metadata["id"] == "ada/my-aimo-try-2"
    assert metadata["dataset_sources"] == [], "the wheels are the output of the other notebook"
    assert metadata["kernel_sources"] == ["bob/k"]
    assert metadata["model_sources"] == ["o/m/transformers/default/3"]
    assert metadata["competition_sources"] == ["ai-mathematical-olympiad-progress-prize-2"]
    assert metadata["enable_gpu"] is False
    assert "machine_shape" not in metadata
    _, metadata = built(tmp_path, "--user", "ada", "--model", "embedded")
    assert metadata["dataset_sources"] == ["ada/stop-solver-wheels"]
    _, metadata = built(tmp_path, "--dataset", "a/b", "--dataset", "c/d")
    assert metadata["dataset_sources"] == ["a/b", "c/d"]


def variables(text: str) -> dict[str, str]:
    made = nbformat.reads(text, as_version=4)
    first = next(cell.source for cell in made.cells if cell.cell_type == "code")
    assigned = (node for node in ast.parse(first).body if isinstance(node, ast.Assign))
    constants = ((n.targets[0].id, n.value) for n in assigned)  # type: ignore[attr-defined]
    return {name: v.value for name, v in constants if isinstance(v, ast.Constant)}


def test_the_notebook_follows_the_flags(tmp_path: Path) -> None:
    text, _ = built(tmp_path)
    given = variables(text)
    assert (given["COMPETITION"], given["MODEL"], given["PRESET"]) == (
        "aimo3", "gpt-oss-120b", "gpt-oss-120b",
    )  # fmt: skip
    flags = ("--user", "ada", "--competition", "aimo2", "--model", "o/Qwen3-8B.x/pyTorch/d-1/3")
    given = variables(built(tmp_path, *flags)[0])
    assert (given["COMPETITION"], given["MODEL"], given["PRESET"]) == (
        "aimo2", "Qwen3-8B.x", "general",
    )  # fmt: skip
    assert variables(built(tmp_path, *flags, "--preset", "qwen3")[0])["PRESET"] == "qwen3"


def test_a_smoke_test_needs_no_model(tmp_path: Path) -> None:
    text, metadata = built(tmp_path, "--user", "ada", "--model", "embedded", "--gpu", "none")
    assert metadata["model_sources"] == []
    assert (variables(text)["MODEL"], variables(text)["PRESET"]) == ("embedded", "embedded")


def test_adapters_are_found_by_their_datasets_name(tmp_path: Path) -> None:
    adapter = tmp_path / "datasets" / "ada" / "my-adapter"
    adapter.mkdir(parents=True)
    (adapter / "stop.json").touch()
    settings = [
        "seed=1",
        "prune.adapter=my-adapter",
        "prune.adapter='my-adapter'",
        "prune.adapter=no",
        "vote.adapter=my-adapter",
    ]
    assert located(settings, tmp_path) == [
        "seed=1", *[f"prune.adapter={adapter}"] * 2, "prune.adapter=no",
        f"vote.adapter={adapter}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--user", "ada"], "gpt-oss-120b/transformers/default/1 is a placeholder: give --model"),
        (["--user", "Ada L"], "--user 'Ada L' is no name in Kaggle's URLs"),
        (["--model", "gpt-oss-120b"], "'gpt-oss-120b' is not a model: write OWNER/MODEL/"),
        (["--model", "embedded", "--model", "o/m/f/v/1"], "'embedded' is not a model"),
        (["--preset", "gpt"], "unknown preset 'gpt'; the presets are embedded, general"),
        (["--title", "abc"], "Kaggle takes 5 to 50 characters"),
        (["--dataset", "wheels"], "'wheels' is not a source: write OWNER/SLUG"),
        (["--kernel", "a/b/c"], "'a/b/c' is not a source"),
        (["--title", "!!"], "has no letter or digit"),
        (["--competition", "aimo9"], "unknown competition 'aimo9'"),
        (["--out", "/dev/null/x"], "cannot write /dev/null/x"),
        (["--tilte", "x"], "No such option: --tilte"),
    ],
)
def test_mistakes_are_one_line(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notebook.main(["build", *flags]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


class InstallCell:
    """The functions of the notebook's second cell, with a pip that only writes down."""

    def __init__(self, returncode: int = 0, installed: bool = True) -> None:
        self.commands: list[list[str]] = []
        source = (COMMITTED / "submission.py").read_text()
        body = source.split("# %%")[4].partition("print(install(INPUT)")[0]
        self.names: dict[str, Any] = {}
        exec(body, self.names)

        def run(command: list[str], **_: object) -> SimpleNamespace:
            self.commands.append(command)
            return SimpleNamespace(returncode=returncode, stderr="pip's own words")

        self.names["subprocess"] = SimpleNamespace(run=run)
        if not installed:
            find = SimpleNamespace(find_spec=lambda name: None)
            self.names["importlib"] = SimpleNamespace(util=find)

    def install(self, root: Path) -> str:
        return str(self.names["install"](root))


def attach(
    folder: Path, requirement: str = "stop-solver[kaggle]==0.1.0", py: str = RUNNING
) -> Path:
    folder.mkdir(parents=True)
    manifest = {"requirement": requirement, "python": py}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    "layout",
    [
        "stop-solver-wheels",
        "stop-solver-wheels/wheelhouse",
        "datasets/ada/stop-solver-wheels",
        "notebooks/ada/make-wheels",
        "notebooks/ada/make-wheels/out/wheels",
    ],
)
def test_wheels_are_found_in_every_layout(tmp_path: Path, layout: str) -> None:
    (tmp_path / "competitions" / "c").mkdir(parents=True)
    attach(tmp_path / "another", requirement="somebody-elses")
    folder = attach(tmp_path / layout)
    cell = InstallCell()
    assert cell.install(tmp_path) == f"installed stop-solver[kaggle]==0.1.0 from {folder}"
    (command,) = cell.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert "--no-index" in command
    assert command[command.index("--find-links") + 1] == str(folder)
    assert command[-1] == "stop-solver[kaggle]==0.1.0"


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe", b'"x"'])
def test_manifests_of_others_are_passed_over(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "a-dataset" / "MANIFEST.json"
    other.parent.mkdir()
    other.write_bytes(content)
    folder = attach(tmp_path / "stop-solver-wheels")
    assert InstallCell().install(tmp_path).endswith(f"from {folder}")


def test_two_variations_of_one_model_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--model", "q/qwen-3/transformers/0.6b/1", "--model", "q/qwen-3/transformers/4b/1"]
    assert notebook.main(["build", "--out", str(tmp_path), *models]) == 2
    assert "two variations of one model" in capsys.readouterr().err


def test_what_is_no_notebook_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, content in enumerate(("print(1)\n", "{}", '{"cells": 3}', "[]")):
        file = tmp_path / f"{number}.ipynb"
        file.write_text(content)
        assert headless.main([str(file)]) == 2
        error = capsys.readouterr().err
        assert f"{file} is no notebook" in error and error.count("\n") == 1


def test_without_wheels_what_is_attached_is_listed(tmp_path: Path) -> None:
    (tmp_path / "datasets" / "ada" / "wrong-one").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"no wheelhouse is attached.*ada/wrong-one"):
        InstallCell(installed=False).install(tmp_path)
    assert "the solver that is installed" in InstallCell().install(tmp_path)


def test_wheels_of_another_python_and_a_failed_install_are_told(tmp_path: Path) -> None:
    attach(tmp_path / "a" / "w", py="3.9")
    with pytest.raises(RuntimeError, match=r"w is for Python 3\.9, this is"):
        InstallCell().install(tmp_path / "a")
    attach(tmp_path / "b" / "w")
    with pytest.raises(RuntimeError, match=r"could not install from .*: pip's own words"):
        InstallCell(returncode=1).install(tmp_path / "b")


def test_weights_are_read_whole_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagecache, "_PIECE", 1000)
    monkeypatch.setattr(pagecache, "_BLOCK", 300)
    (tmp_path / "a.safetensors").write_bytes(b"x" * 2500)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 999)
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 70)
    read: list[int] = []
    original = pagecache._read
    monkeypatch.setattr(
        pagecache, "_read", lambda *piece: read.append(original(*piece)) or read[-1]
    )
    said: list[str] = []
    thread = pagecache.warm_up(tmp_path, said.append)
    assert thread is not None
    thread.join()
    assert sorted(read) == [500, 999, 1000, 1000]
    assert said[0].startswith("warm-up: 0.0 GB in ")


def test_warming_up_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pagecache._read(tmp_path / "gone.safetensors", 0, 10) == 0
    said: list[str] = []
    (tmp_path / "a.safetensors").write_bytes(b"x" * 2500)
    for available, fits in ((2500, True), (2499, False)):
        memory = SimpleNamespace(available=available)
        little = SimpleNamespace(virtual_memory=lambda memory=memory: memory)
        monkeypatch.setattr(pagecache, "psutil", little)
        thread = pagecache.warm_up(tmp_path, said.append)
        assert (thread is not None) is fits
        if thread is not None:
            thread.join()
    assert "do not fit into memory" in said[-1]


@pytest.mark.torch
def test_the_notebook_answers_every_row_on_the_embedded_model(tmp_path: Path) -> None:
    problems = tmp_path / "problems.csv"
    lines = (ROOT / "examples" / "problems.csv").read_text().splitlines(keepends=True)
    problems.write_text("".join(lines[:4]))
    run = rehearse(
        plan(
            tmp_path,
            problems,
            limit_s=150.0,
            command=(
                sys.executable,
                "-m",
                "submissions.headless",
                str(COMMITTED / "submission.ipynb"),
            ),
            worker=WORKER,
            preset="embedded",
            sets=("model.path=embedded",),
            least_silence_s=20.0,
        ),
        1,
    )
    loaded = load_problems(problems)
    assert run_faults(run, loaded, AIMO3) == [], (run.folder / "submission.log").read_text()
    assert run.submission is not None
    answers = answers_in(run.submission)
    assert sum(answers[problem.id] == problem.answer for problem in loaded) >= 2
