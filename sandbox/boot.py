"""The first thing that runs in a kernel's or the zygote's process: `python -I boot.py MODULE ARGS...`."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # 0.3 s of start, and never used
    sys.path[0:0] = [str(Path(__file__).resolve().parents[1])]
    module = importlib.import_module(f"sandbox.{sys.argv[1]}")
    del sys.path[0]  # a cell has no business with our modules
    module.main(*sys.argv[2:])
