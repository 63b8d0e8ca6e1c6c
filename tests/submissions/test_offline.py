"""From the package index to a submission file without it: wheels, an empty environment, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import warnings
from collections.abc import Iterator
from pathlib import Path

import polars
import pytest

from submissions.notebook import main

ROOT = Path(__file__).parents[2]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def without_network() -> tuple[list[str], dict[str, str]]:
    """What runs a command with the network cut, and what to add to its environment."""
    for cut in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            if subprocess.run([*cut, "true"], capture_output=True).returncode == 0:
                return cut, {}
        except OSError:
            break
    nowhere = "http://127.0.0.1:9"
    warnings.warn("no network namespaces here: proxies that lead nowhere", stacklevel=2)
    return [], {"CUT": "no", "PIP_NO_INDEX": "1", "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that does not stay: two gigabytes a run would."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.offline
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default:no network namespaces")
def test_the_notebook_installs_itself_offline_and_answers(folder: Path) -> None:
    wheels = folder / "wheels"
    assert main(["wheelhouse", "--python", RUNNING, "--out", str(wheels)]) == 0
    venv.create(folder / "empty", with_pip=True)
    python = folder / "empty" / "bin" / "python"
    problems = folder / "problems.csv"
    lines = (ROOT / "examples" / "problems.csv").read_text().splitlines(keepends=True)
    problems.write_text("".join(lines[:3]))
    cut, environment = without_network()
    script = Path(__file__).with_name("offline_run.py")
    done = subprocess.run(
        [*cut, sys.executable, str(script), python, wheels, problems, folder / "out"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failure"] is None, told["log"]
    assert f"installed stop-solver[kaggle]=={VERSION} from {folder}" in told["log"]
    assert told["network"] is (not cut)
    assert told["solver"].startswith(str(folder / "empty")), "the source tree was tested"
    assert polars.read_parquet(told["submission"]).height == 2
    assert told["doctor_status"] == 0, told["doctor"]
    found = {finding["name"]: finding["status"] for finding in json.loads(told["doctor"])}
    assert found["packages"] == found["wheels"] == found["kernel"] == found["scorer"] == "ok"
