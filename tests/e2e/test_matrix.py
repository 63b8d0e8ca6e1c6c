"""The matrix for real: the embedded model, and real kernels whose zygote is killed or frozen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.submissions import processes_of

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("cases", ["zygote killed", "zygote frozen", "leftovers of another torch"])
def test_cases_hold_with_the_real_solver(tmp_path: Path, cases: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "submissions.matrix", ROOT / "examples" / "problems.csv",
         "--only", cases, "--out", tmp_path / "out"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"holds    {cases}: 6 rows" in run.stdout
    assert "1 of 1 cases hold" in run.stdout
    assert processes_of(tmp_path) == []
