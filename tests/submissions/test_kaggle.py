"""What `serve` finds on a machine that looks like Kaggle's, and what it does when something is missing."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from solver.cli.python import python
from solver.config import SolverConfig
from solver.errors import ConfigError, InputError
from submissions.competitions import competition
from submissions.kaggle import main, serve
from submissions.paths import ADAPTER_FILES, MODEL_FILES, attached, resolve
from submissions.servers import count_problems, iterate, load_module
from submissions.settings import REHEARSAL, Rehearsal, resolve_submission
from tests.support.submissions import AIMO3, SMALL, WORKER, problems_file

SLUG = AIMO3.slug


def folder(path: Path, *files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for file in files:
        (path / file).touch()
    return path


@pytest.mark.parametrize(
    "layout",
    [
        "gpt-oss-120b",
        "datasets/someone/gpt-oss-120b",
        "notebooks/someone/gpt-oss-120b",
        "models/openai/gpt-oss-120b/transformers/default/1",
        "gpt-oss-120b/transformers/default/1",
        "datasets/someone/gpt-oss-120b/weights",
    ],
)
def test_models_are_found_in_every_layout(tmp_path: Path, layout: str) -> None:
    there = folder(tmp_path / layout, "config.json")
    folder(tmp_path / "another-model" / "transformers" / "default" / "1", "config.json")
    assert attached("gpt-oss-120b", MODEL_FILES, tmp_path) == there
    assert attached("/old/place/gpt-oss-120b", MODEL_FILES, tmp_path) == there
    assert attached("gpt-oss-120b", ADAPTER_FILES, tmp_path) is None


def test_of_several_versions_the_highest(tmp_path: Path) -> None:
    for version in ("9", "10", "2"):
        folder(
            tmp_path / "models" / "o" / "m" / "transformers" / "default" / version, "config.json"
        )
    found = attached("m", MODEL_FILES, tmp_path)
    assert found is not None and found.name == "10"


def test_a_gguf_file_is_found_by_its_name_and_by_that_of_its_folder(tmp_path: Path) -> None:
    file = folder(tmp_path / "datasets" / "o" / "small", "m.gguf") / "m.gguf"

    def model(path: str) -> str:
        return resolve(SolverConfig.model_validate({"model": {"path": path}}), tmp_path).model.path

    assert {model(str(file)), model("m.gguf"), model("/old/m.gguf"), model("small")} == {str(file)}
    (file.parent / "other.gguf").touch()
    assert model("m.gguf") == str(file)
    with pytest.raises(InputError, match=r"several models, name one of m\.gguf, other\.gguf"):
        model("small")
    with pytest.raises(InputError, match="no model ''"):
        model("")


def test_of_a_model_in_parts_the_first(tmp_path: Path) -> None:
    parts = folder(tmp_path / "m", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    found = resolve(SolverConfig.model_validate({"model": {"path": "m"}}), tmp_path)
    assert found.model.path == str(parts / "m-00001-of-00002.gguf")


def test_a_reward_model_is_found_by_its_name(tmp_path: Path) -> None:
    there = folder(tmp_path / "datasets" / "o" / "reward", "config.json")
    config = SolverConfig.model_validate({"prune": {"reward_model": "reward"}})
    assert resolve(config, tmp_path).prune.reward_model == str(there)


def test_a_config_gets_the_folders_as_they_are_here(tmp_path: Path) -> None:
    model = folder(tmp_path / "datasets" / "o" / "m", "config.json")
    adapter = folder(tmp_path / "my-adapter", "stop.json")
    config = SolverConfig.model_validate(
        {
            "model": {"path": "m"},
            "prune": {"adapter": "./else/my-adapter"},
            "vote": {"adapter": "my-adapter"},
        }
    )
    found = resolve(config, tmp_path)
    assert (found.model.path, found.prune.adapter) == (str(model), str(adapter))
    assert found.vote.adapter == str(adapter)
    assert resolve(SolverConfig(), tmp_path) == SolverConfig()
    kept = found.model_copy(update={"prune": SolverConfig().prune})
    assert resolve(kept, tmp_path / "elsewhere") == kept
    with pytest.raises(InputError, match=r"no model 'other' .* looked at .*my-adapter"):
        resolve(SolverConfig.model_validate({"model": {"path": "other"}}), tmp_path)


def test_without_kaggle_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(REHEARSAL, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert f"rehearse with {python()} -m submissions.dryrun" in capsys.readouterr().err
    assert main(["imo"]) == 2
    assert "unknown competition" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="holds no folders"):
        load_module(AIMO3, tmp_path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with the competition attached, on which a notebook is saved: no rerun."""
    files = folder(tmp_path / "input" / "competitions" / SLUG / "kaggle_evaluation", "__init__.py")
    (files / "aimo_3_inference_server.py").write_text(
        "from submissions.standin import AIMO3InferenceServer\n"
    )
    problems_file(files.parent / "test.csv", [11, 12])
    for name in [name for name in sys.modules if name.startswith("kaggle_evaluation")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    rehearse(monkeypatch, tmp_path)
    monkeypatch.chdir(folder(tmp_path / "working"))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("kaggle_evaluation")]:
        del sys.modules[name]


def rehearse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "input": tmp_path / "input",
        "started_at": time.monotonic(),
        "limit_s": 30.0,
        "num_problems": 2,
        "port": 0,
        "key": "00",
        "sets": SMALL,
        "worker": WORKER,
        **changes,
    }
    monkeypatch.setenv(REHEARSAL, Rehearsal(**fields).model_dump_json())


def answers(site: Path) -> dict[str, int]:
    frame = pandas.read_parquet(site / "working" / "submission.parquet")
    return dict(zip(frame["id"], frame["answer"], strict=True))


def test_a_notebook_that_is_saved_answers_the_test_file(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve()
    assert answers(site) == {"p0": 11, "p1": 12}
    output = capsys.readouterr().out
    assert f"{site}/input/competitions/{SLUG}; 2 problems" in output
    assert "model: embedded" in output
    serve()  # with the same config it goes on in the same folder, and knows its answers
    assert answers(site) == {"p0": 11, "p1": 12}
    assert [p.name for p in (site / "working").iterdir() if p.is_dir()] == ["stop-solver-run"]
    serve(sets=("seed=9",))
    assert (site / "working" / "stop-solver-run-2" / "journal.jsonl").exists()


def test_a_saved_run_says_at_once_that_the_model_is_missing(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearse(monkeypatch, site, sets=(*SMALL, "model.path=not-attached"))
    with pytest.raises(InputError, match=r"no model 'not-attached' .*looked at"):
        serve()
    assert not (site / "working" / "submission.parquet").exists()


def test_a_saved_run_whose_rows_are_all_fallback_says_why(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearse(monkeypatch, site, worker=(*WORKER, "--refuse"))
    with pytest.raises(InputError, match="every answer is the fallback: no such model here"):
        serve()
    assert answers(site) == {"p0": 0, "p1": 0}


def test_a_saved_run_refuses_a_port_that_another_server_holds(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submissions.kaggle.listening", lambda port: True)
    with pytest.raises(InputError, match="another process listens on port 50051"):
        serve()


def test_a_crash_says_its_reason_in_the_notebooks_log(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = (sys.executable, "-c", "raise OSError('a broken driver')")
    monkeypatch.setattr("submissions.supervisor.MAX_FAILED_STARTS", 1)
    rehearse(monkeypatch, site, worker=crash)
    with pytest.raises(InputError, match="crashed while it started: OSError: a broken driver"):
        serve()
    assert (
        "the solver was lost: crashed while it started: OSError: a broken"
        in capsys.readouterr().out
    )


def test_the_rows_of_a_rerun_are_not_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = problems_file(tmp_path / "test.csv", [1, 2, 3])
    assert count_problems(file, 50) == 3
    assert count_problems(None, 50) == 50
    (tmp_path / "bad.csv").write_text("x\n1\n")
    assert count_problems(tmp_path / "bad.csv", 50) == 50
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    assert count_problems(file, 50) == 50
    assert count_problems(problems_file(tmp_path / "many.csv", range(60)), 50) == 60


def test_each_competition_has_its_range_and_a_rehearsal_its_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolved(name: str, **changes: Any):  # type: ignore[no-untyped-def]
        fields: dict[str, Any] = {
            "preset": None, "config": None, "sets": (), "time_limit": "4h", "num_problems": None,
            "folder": tmp_path, "started_at": None, **changes,
        }  # fmt: skip
        return resolve_submission(name, **fields)

    monkeypatch.delenv(REHEARSAL, raising=False)
    aimo2 = resolved("aimo2").config
    assert (aimo2.answer.maximum, aimo2.answer.modulus) == (999, 1000)
    assert resolved("aimo2").row_limit_s == 1800
    aimo3 = resolved("aimo3", sets=("budget.problem_limit_s=900",))
    assert (aimo3.config.answer.maximum, aimo3.config.answer.modulus) == (99_999, None)
    assert aimo3.config.budget.time_limit_s == 4 * 3600
    assert aimo3.num_problems == 50
    rehearse(monkeypatch, tmp_path, speed=60.0, limit_s=240.0, sets=())
    fast = resolved("aimo3", sets=("budget.problem_limit_s=900",))
    assert fast.config.budget.time_limit_s == 240
    assert fast.row_limit_s == 9 * 3600 / 60
    assert fast.config.budget.problem_limit_s == 15
    assert fast.config.budget.answer_reserve_s == pytest.approx(10 / 60)
    assert fast.num_problems == 2
    monkeypatch.setenv(REHEARSAL, "{}")
    with pytest.raises(ConfigError, match="is not a rehearsal"):
        resolved("aimo3")


def test_the_notebooks_process_stays_small() -> None:
    code = "import sys, submissions.kaggle; print({'torch', 'transformers'} & set(sys.modules))"
    run = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_the_first_competition_is_a_loop() -> None:
    given: list[tuple[str, int]] = []

    class Environment:
        def iter_test(self):  # type: ignore[no-untyped-def]
            for i in range(3):
                test = pandas.DataFrame({"id": [f"p{i}"], "problem": [f"what is {i}?"]})
                yield test, pandas.DataFrame({"id": [f"p{i}"], "answer": [-1]})

        def predict(self, sample: pandas.DataFrame) -> None:
            given.append((sample["id"].iloc[0], int(sample["answer"].iloc[0])))

    module = types.ModuleType("aimo")
    module.make_env = Environment  # type: ignore[attr-defined]
    iterate(module, lambda problem_id, statement: int(statement[8]) + 10)
    assert given == [("p0", 10), ("p1", 11), ("p2", 12)]
    assert competition("aimo1").server is None
