"""Consoles whose reader has gone."""

from __future__ import annotations

import os
import subprocess
import sys

WORK = """
from solver.cli.progress import WorkProgress
with WorkProgress(quiet=False) as progress:
    for n in range(1000):
        progress.say(f"epoch {n}")
print("trained")
"""


def test_work_goes_on_when_nobody_reads_its_progress() -> None:
    """Such as `train ... 2>&1 >result | head`: the result is still there."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=writer, text=True
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, "trained\n")
