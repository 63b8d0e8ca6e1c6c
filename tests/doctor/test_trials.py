"""What the doctor tries, tried: on this machine, on broken folders and on parsers made for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus
from solver.config import SolverConfig
from solver.doctor import __main__ as command
from solver.doctor import examination, facts, trials
from solver.doctor.finding import Finding, Status
from solver.doctor.weights import weights_bytes
from solver.embedded.paths import WEIGHTS
from solver.errors import ConfigError, ModelError
from solver.runs.settings import load_config
from solver.wheels.driver import cuda_of, driver_fault
from solver.wheels.manifest import make_manifest, write_manifest
from tests.engines.helpers import tiny_model
from tests.support.gguf_files import write_gguf
from tests.support.wheels import make_wheel

EMBEDDED = load_config()
NAMES = ("python", "packages", "cpu", "model", "memory", "gpu", "disk", "ports", "isolation")
NAMES = (*NAMES, "kernel", "tokenizer", "scorer")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the embedded model to break."""
    return Path(shutil.copytree(WEIGHTS, tmp_path / "model"))


def config_of(folder: Path, **changes: Any) -> SolverConfig:
    overrides = {"model.path": str(folder), "prune.scorer": "none", **changes}
    return load_config("embedded", overrides=overrides)


def by_name(config: SolverConfig, name: str) -> Finding:
    (check,) = (check for known, check in examination._checks(config, None) if known == name)
    (finding,) = examination.guarded(name, check)
    return finding


def test_this_machine_is_fit_for_the_embedded_model() -> None:
    findings = list(examination.examine(EMBEDDED, None))
    assert [f for f in findings if f.status is Status.FAIL] == []
    assert set(NAMES) <= {finding.name for finding in findings}
    assert [f.name for f in findings if (f.status is not Status.OK) is not bool(f.advice)] == []


def test_a_kernel_that_does_not_add(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trials.kernel(Limits()).status is Status.OK

    class Broken:
        def __init__(self, limits: Limits) -> None: ...

        async def __aenter__(self) -> Broken:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        def lease(self) -> Broken:
            return self

        async def execute(self, code: str, timeout_s: float) -> ExecutionResult:
            return ExecutionResult(status=ExecutionStatus.DIED, stderr="no more memory")

    monkeypatch.setattr(trials, "KernelPool", Broken)
    finding = trials.kernel(Limits())
    assert finding.status is Status.FAIL
    assert "no more memory" in finding.found


def test_isolation_that_is_required_and_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from sandbox.isolation import Isolation

    monkeypatch.setattr(examination, "isolation", Isolation)
    config = load_config(sets=["sandbox.require=['landlock']"])
    assert by_name(config, "isolation").status is Status.FAIL


def test_a_model_that_is_not_there_or_not_whole(model: Path) -> None:
    assert by_name(config_of(model), "model").status is Status.OK
    nowhere = by_name(config_of(model / "nowhere"), "model")
    assert (nowhere.status, nowhere.found) == (Status.FAIL, f"no folder {model / 'nowhere'}")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    cut = by_name(config_of(model), "model")
    assert (cut.status, "is not a whole safetensors file" in cut.advice) == (Status.FAIL, True)
    weights.unlink()
    assert "no *.safetensors weights" in by_name(config_of(model), "model").advice
    (model / "config.json").unlink()
    assert "has no config.json" in by_name(config_of(model), "model").advice


def test_a_gguf_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("qwen2", vocab_size=280))
    for check in ("model", "memory", "tokenizer", "packages"):
        assert by_name(config_of(path), check).status is Status.OK
    on_vllm = by_name(config_of(path, **{"model.engine": "vllm"}), "model")
    assert (on_vllm.status, "runs in process" in on_vllm.found) == (Status.FAIL, True)
    path.write_bytes(path.read_bytes()[:-500])
    assert "not a whole GGUF file" in by_name(config_of(path), "model").advice


def test_an_architecture_that_the_engine_does_not_serve(model: Path) -> None:
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "model_type": "gpt_oss"}))
    finding = by_name(config_of(model), "model")
    assert (finding.status, "not gpt_oss" in finding.advice) == (Status.FAIL, True)


def test_shards_are_those_of_the_index(model: Path) -> None:
    size = weights_bytes(model)
    assert size == (model / "model.safetensors").stat().st_size
    shutil.copy(model / "model.safetensors", model / "b.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "model.safetensors", "y": "b.safetensors"}}))
    assert weights_bytes(model) == 2 * size
    (model / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"b\.safetensors is missing"):
        weights_bytes(model)
    index.write_text("{}")
    with pytest.raises(ModelError, match="has no weight_map"):
        weights_bytes(model)


def test_a_tokenizer_without_its_files_or_its_template(model: Path) -> None:
    assert by_name(config_of(model), "tokenizer").status is Status.OK
    (model / "chat_template.jinja").unlink()
    assert "no chat template" in by_name(config_of(model), "tokenizer").advice
    (model / "tokenizer.json").unlink()
    assert by_name(config_of(model), "tokenizer").status is Status.FAIL


def test_a_vocabulary_that_is_another_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "o200k_base.tiktoken").write_text("none")
    changes = {"model.dialect": "harmony", "model.prompt": "harmony"}
    config = config_of(model, **changes, **{"harmony.vocabulary": str(tmp_path)})
    finding = by_name(config, "tokenizer")
    assert finding.status is Status.FAIL


def test_an_adapter_for_another_model_mark_or_prompt(model: Path) -> None:
    assert by_name(EMBEDDED, "scorer").status is Status.OK
    shipped = str(WEIGHTS.parent / "stop")
    stop = {"prune.scorer": "stop", "prune.adapter": shipped}
    assert by_name(config_of(model, **stop), "scorer").status is Status.OK
    assert "mark 32" in by_name(config_of(model, **stop, **{"prune.mark": 40}), "scorer").advice
    other = by_name(config_of(model, **stop, **{"model.prompt": "tools"}), "scorer")
    assert "trained on prompt bare" in other.advice
    assert "use model.prompt=bare or choose another prune.scorer" in other.advice
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 3}))
    assert "another base model" in by_name(config_of(model, **stop), "scorer").advice
    missing = by_name(config_of(model, **{"prune.scorer": "stop"}), "scorer")
    assert missing.status is Status.FAIL
    assert by_name(config_of(model), "scorer").found == "none: needs no adapter"


def test_an_adapter_of_the_last_check(model: Path, tmp_path: Path) -> None:
    mine = tmp_path / "last"
    shutil.copytree(WEIGHTS.parent / "stop", mine)
    spec = json.loads((mine / "stop.json").read_text())
    verified = {"vote.rule": "verified", "vote.adapter": str(mine)}
    wrong = by_name(config_of(model, **verified), "last check")
    assert wrong.status is Status.FAIL and "trained for mark 32: the last check" in wrong.advice
    (mine / "stop.json").write_text(json.dumps({**spec, "mark": None}))
    assert by_name(config_of(model, **verified), "last check").status is Status.OK


PARSER = """
import argparse, sys
parser = argparse.ArgumentParser(prog='api_server.py')
parser.add_argument('--dtype', choices=['auto', 'bfloat16'])
parser.add_argument('--seqs', type=int)
parser.parse_args()
open('started', 'w')
"""


def judged(*flags: str, program: str = PARSER) -> Finding:
    start = (sys.executable, "-c", program)
    return trials.judge_flags((*start, *flags), program=start)


def test_vllms_parser_is_asked_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = judged("--dtype", "auto", "--seqs", "3")
    assert (good.status, good.found) == (Status.OK, "takes our 4 words of flags")
    unknown = judged("--dtype", "auto", "--async", "--later=3")
    assert (unknown.status, unknown.found) == (
        Status.FAIL,
        "unrecognized arguments: --async --later=3",
    )
    assert "invalid choice: 'fp4'" in judged("--dtype", "fp4").found
    broken = judged(program="import no_such_module")
    assert (broken.status, "No module named" in broken.found) == (Status.FAIL, True)
    assert not (tmp_path / "started").exists()


def test_vllm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "find_spec", lambda name: None)
    config = load_config(overrides={"model.engine": "vllm"})
    assert by_name(config, "vllm").found == "not installed"


def test_flags_that_we_refuse_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "find_spec", lambda name: True)
    config = load_config(sets=["model.engine='vllm'", "vllm.args=['--port', '1']"])
    assert "the solver sets that itself" in by_name(config, "vllm").advice


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Healthy) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_servers_that_answer_and_that_do_not(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which the engine does not ask either
    assert trials.servers([server, f" {server}/v1 "]).status is Status.OK
    assert "is no server" in trials.servers(["nowhere"]).found
    gone = trials.servers([server, "http://127.0.0.1:9"])
    assert (gone.status, "http://127.0.0.1:9" in gone.found) == (Status.FAIL, True)


def test_wheels(tmp_path: Path) -> None:
    make_wheel(tmp_path, "stop-solver", "0.1.0")
    write_manifest(tmp_path, make_manifest(tmp_path, "stop-solver", "3.12", (), ()))
    assert examination.wheels(tmp_path, "3.12.7").found.endswith("whole, for Python 3.12")
    assert examination.wheels(tmp_path, "3.11.7").found.endswith("(this is 3.11.7)")
    missing = examination.wheels(tmp_path, "3.12.7", with_vllm=True)
    assert (missing.status, missing.found) == (Status.FAIL, "no vllm among them")
    assert "--extra vllm" in missing.advice
    make_wheel(tmp_path, "nvidia-cuda-runtime", "13.0.96")
    write_manifest(tmp_path, make_manifest(tmp_path, "stop-solver", "3.12", (), ()))
    whole = examination.wheels(tmp_path, "3.12.7", driver="580.95.05")
    assert whole.found.endswith("for Python 3.12, driver 580.65.06 or newer")
    assert examination.wheels(tmp_path, "3.12.7").status is Status.OK, "no driver: a CPU"
    old = examination.wheels(tmp_path, "3.12.7", driver="550.90.07")
    assert (old.status, "needs driver 580.65.06 or newer, this machine has 550.90.07" in old.found) == (
        Status.FAIL, True,
    )  # fmt: skip
    make_wheel(tmp_path, "stowaway", "1")
    assert examination.wheels(tmp_path, "3.12.7").status is Status.FAIL


def test_a_crash_of_a_check_is_a_finding() -> None:
    def crash() -> Finding:
        raise ZeroDivisionError("by zero\nand more")

    def refuse() -> Finding:
        raise ConfigError("do this instead")

    (crashed,) = examination.guarded("x", crash)
    assert crashed == Finding(
        "x", Status.FAIL, "the check itself failed", "ZeroDivisionError: by zero"
    )
    (refused,) = examination.guarded("x", refuse)
    assert refused == Finding("x", Status.FAIL, "refused", "do this instead")


def test_gpus_are_those_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(stdout="NVIDIA H100 80GB HBM3, 81559\nNVIDIA, odd, [N/A]\n\n")

    monkeypatch.setattr(subprocess, "run", told)
    assert [(gpu.name, gpu.total) for gpu in facts.gpus()] == [
        ("NVIDIA H100 80GB HBM3", 81559 << 20)
    ]

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", absent)
    assert facts.gpus() == []
    assert facts.driver() is None


@pytest.mark.parametrize(
    ("driver", "cuda", "runs"),
    [
        ("580.65.06", "13.0", True),
        ("575.57.08", "13.0", False),
        ("575.57.08", "12.8", True),
        ("470.256.02", "12.8", False),
        ("470.256.02", "99.1", True),  # not known: nothing is said
        ("strange", "13.0", True),
        (None, "13.0", True),
        ("575.57.08", None, True),
    ],
)
def test_drivers(driver: str | None, cuda: str | None, runs: bool) -> None:
    assert (driver_fault(driver, cuda) is None) is runs


def test_the_runtime_tells_the_cuda() -> None:
    assert cuda_of([("torch", "2.13.0"), ("nvidia-cuda-runtime", "13.0.96")]) == "13.0.96"
    assert cuda_of([("nvidia-cuda-runtime-cu12", "12.8.90")]) == "12.8.90"
    assert cuda_of([("torch", "2.13.0")]) is None


def only(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(examination, "examine", lambda *_, **__: iter(findings))


def test_the_table_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Finding("cpu", Status.OK, "2 cores")
    poor = Finding("gpu", Status.WARN, "none", "get [one]")
    bad = Finding("disk", Status.FAIL, "full", "free some")
    only(monkeypatch, good, poor)
    assert command.main([]) == 0
    told = capsys.readouterr().out
    assert "get [one]" in told
    assert told.endswith("fit for a run\n")
    only(monkeypatch, good, poor, bad)
    assert command.main([]) == 1
    assert capsys.readouterr().out.endswith("1 of 3 checks fail\n")
    assert command.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out)[2] == {
        "name": "disk",
        "status": "fail",
        "found": "full",
        "advice": "free some",
    }


@pytest.mark.parametrize(
    "arguments",
    [["--preset", "nope"], ["--set", "prune.lunch=3"], ["--nope"], ["--config", "none.toml"]],
)
def test_flags_that_make_no_sense(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1


@pytest.mark.torch
def test_deep_loads_the_model_and_solves_a_small_problem(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = list(examination.examine(EMBEDDED, None, deep=True))
    assert findings[-1].name == "solve"
    assert findings[-1].status is Status.OK
    assert findings[-1].found.startswith("1 + 1 is ")

    class Broken:
        name = "stop"

        async def score(self, trajectories: object, deadline: float) -> list[float]:
            raise RuntimeError("a broken head")

    async def broken(context: object) -> Broken:
        return Broken()

    monkeypatch.setattr("solver.build.open_scorer", broken)
    finding = trials.deep(EMBEDDED)
    assert (finding.status, finding.name) == (Status.FAIL, "solve")
    assert "scorer stop failed, kept at random: RuntimeError: a broken head" in finding.found
    (model / "model.safetensors").unlink()
    (refused,) = examination.guarded("solve", lambda: trials.deep(config_of(model)))
    assert refused.status is Status.FAIL and "model.safetensors" in refused.advice
