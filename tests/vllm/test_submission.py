"""A submission on a real server that is killed, or frozen, in the middle of a row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = ("model.engine=vllm", "vllm.silence_s=5", "vllm.probe_s=3")


@pytest.mark.timeout(500)
@pytest.mark.parametrize("case", ["server killed", "server frozen"])
def test_a_lost_server_costs_no_row(tmp_path: Path, case: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "submissions.matrix", ROOT / "examples" / "problems.csv",
         "--only", case, "--out", tmp_path / "out",
         *(word for setting in SETTINGS for word in ("--set", setting))],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"holds    {case}: 6 rows" in run.stdout
