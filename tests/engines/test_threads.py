"""What computes beside the engine leaves no OpenMP threads behind, which would slow its steps down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from solver.engines.threads import in_own_thread
from tests.engines.helpers import tiny_model

COUNT = """
import os, sys, time, torch
from solver.config import ModelConfig
from solver.engines import loading
torch.set_num_threads(2)
config = ModelConfig(path=sys.argv[1], device="cpu", dtype="int8")
num_threads = lambda: len(os.listdir("/proc/self/task"))
before = num_threads()
model = getattr(loading, sys.argv[2])(config)
deadline = time.monotonic() + float(sys.argv[3])  # threads end a little after their owner
while num_threads() > before and time.monotonic() < deadline:
    time.sleep(0.05)
print(num_threads() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_loading_a_model_leaves_no_threads(tmp_path: Path) -> None:
    tiny_model("qwen2", vocab_size=4096).save_pretrained(tmp_path)

    def left(function: str, wait_s: float) -> int:
        words = [sys.executable, "-c", COUNT, tmp_path, function, str(wait_s)]
        env = {**os.environ, "OMP_NUM_THREADS": "2"}
        run = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
        return int(run.stdout)

    assert left("load_model", 30) == 0
    assert left("_load", 1) > 0  # in the thread that called


def test_errors_are_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        in_own_thread(divmod, 1, 0)
