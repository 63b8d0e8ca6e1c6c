"""Runs Kaggle's own gateway from a copy of its package on this machine, in a process of its own.

That process is `python -m submissions.realgateway MODULE CLASS CSV ORDER`. None of the package is ours.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from submissions.competitions import Competition
from submissions.gateway import DEADLINE, INVALID, SUBMISSION, GatewayError
from submissions.guard import end_tree, guarded
from submissions.servers import rerun_environment

_LOG = "gateway.log"


def run_real_gateway(
    package: Path, competition: Competition, shuffled: bool, working: Path, until: float
) -> Path:
    """The file that Kaggle's gateway writes into `working`, or `GatewayError` with its last line."""
    csv = working.parent / "input" / "competitions" / competition.slug / "test.csv"
    command = (
        *(sys.executable, "-m", "submissions.realgateway"),
        competition.module.replace("inference_server", "gateway"),
        (competition.server or "").replace("InferenceServer", "Gateway"),
        str(csv.absolute()),
        "shuffled" if shuffled else "fixed",
    )
    environment = {k: v for k, v in os.environ.items() if k not in rerun_environment()}
    root = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join((root, str(package.absolute())))
    log = working.parent / _LOG
    with log.open("wb") as file:
        process = subprocess.Popen(
            guarded(command), cwd=working, env=environment, stdout=file, stderr=file
        )
    try:
        process.wait(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise GatewayError(DEADLINE, "the limit came first") from None
    finally:
        end_tree(process.pid)
        process.wait()
    if not (working / SUBMISSION).is_file():
        words = log.read_text(errors="replace").strip().splitlines()
        raise GatewayError(INVALID, words[-1] if words else "Kaggle's gateway ended without a file")
    return working / SUBMISSION


def main(arguments: Sequence[str]) -> None:
    """Run the gateway for a problems file, in the working directory."""
    module_name, class_name, csv, order = arguments
    module = importlib.import_module(module_name)
    if order == "fixed":
        module.USE_PRIVATE_SET = True  # type: ignore[attr-defined]
    getattr(module, class_name)((csv,)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
