"""`python -m tests.without_torch`: what the tests that need no torch install, a requirement a line.

Outside of Python 3.11 the wheel of torch for Linux brings gigabytes of CUDA; the tests of decisions, files,
journals, dialects and kernels need none of it.
"""

import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["kaggle"], *extras["dev"]]
    print(*(r for r in wanted if not r.startswith(("torch", "stop-solver"))), sep="\n")
