"""`make demo TORCH_INDEX=URL` takes torch, and nothing but torch, from another index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.wheels import make_wheel

ROOT = Path(__file__).parents[2]
INDEX = "https://index.example/cpu"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that the Makefile asks for, without an installation."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-vllm.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(clone: Path, *words: str) -> str:
    """What `make` prints; pip knows no other index than the one it is told."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "MAKE"))}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["make", *words, f"PYTHON={sys.executable}"],
        cwd=clone, env=environment, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("target", "environment"), [("demo", ".venv"), ("test", ".venv"), ("test-vllm", ".venv-vllm")]
)
def test_torch_comes_first_and_alone_from_the_index(
    clone: Path, target: str, environment: str
) -> None:
    plain = [line for line in make(clone, "--dry-run", target).splitlines() if "pip " in line]
    chosen = make(clone, "--dry-run", target, f"TORCH_INDEX={INDEX}").splitlines()
    first, *others = [line for line in chosen if "pip " in line]
    assert others == plain and not any(INDEX in line for line in others)
    assert first == (
        f"{environment}/bin/pip install --quiet --no-deps --constraint constraints.txt"
        f" --index-url {INDEX} torch"
    )


def pinned_torch() -> str:
    """The version in constraints.txt."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (version,) = (pin.removeprefix("torch==") for pin in pins if pin.startswith("torch=="))
    return version


class Pages(SimpleHTTPRequestHandler):
    """Files and folders as pages of links, as a package index has them; remembers what was asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package index on loopback that has one build of torch, for CPUs, which needs another package."""
    folder = tmp_path / "index" / "torch"
    folder.mkdir(parents=True)
    make_wheel(folder, "torch", f"{pinned_torch()}+cpu", ["sympy"])
    Pages.asked.clear()
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Pages, directory=str(folder.parent))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_the_index_has_is_installed(clone: Path, index: str) -> None:
    make(clone, ".venv/torch", f"TORCH_INDEX={index}")
    pip = [str(clone / ".venv" / "bin" / "python"), "-m", "pip"]
    listed = subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True).stdout
    assert f"torch=={pinned_torch()}+cpu" in listed.splitlines() and "sympy" not in listed
    assert {path.split("/")[1] for path in Pages.asked} == {"torch"}
    # The installation that follows asks for the pinned version, and finds it.
    again = [*pip, "install", "--no-index", "--no-deps", "--constraint", "constraints.txt", "torch"]
    subprocess.run(again, cwd=clone, capture_output=True, check=True)
