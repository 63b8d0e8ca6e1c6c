"""Plays a vLLM server's process: `python fake_process.py FLAGS...`, told how to behave by FAKE_PLAY (JSON).

It takes the flags that a real one gets, and serves what `FakeServer` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))  # it is run as a file, isolated
from tests.support.fake_vllm import FakeServer

LOGIT = 0.25
NO_CACHE = (
    "(EngineCore pid=7) ERROR 11-22 02:41:10 [core.py:866] ValueError: To serve at least one request"
    " with the model's max seq len (512), (2.00 GiB KV cache is needed, which is larger than the"
    " available KV cache memory (1.00 GiB). Based on the available memory, the estimated maximum model"
    " length is 256. Try increasing `gpu_memory_utilization`"
)
DEVICE_FULL = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
DEVICE_TAKEN = (
    "ValueError: Free memory on device cuda:0 (60.0/80.0 GiB) on startup is less than desired GPU"
    " memory utilization (0.9, 72.0 GiB)."
)
SUMMED_UP = (
    "RuntimeError: Engine core initialization failed. See root cause above."
    " Failed core proc(s): {'EngineCore_0': 1}"
)


@dataclass
class Play:
    """How it behaves. `folder` collects what the test wants to know: pids, the flags of each start."""

    folder: str = ""
    loading_s: float = 0.0
    dies_with: str = ""  # printed at the start, before exit code 1
    dies_times: int = 1 << 30  # of the first starts
    dies_over_seqs: int | None = None  # only if --max-num-seqs is more
    hangs: bool = False  # never answers
    requests: int | None = None  # completions until it dies
    ignores_sigterm: bool = False
    family: bool = False  # starts a child, and an orphan in a session of its own
    logit: float | None = LOGIT  # of every prefix; None: no plugin


def embedded_server(logit: float | None = LOGIT, **settings: Any) -> FakeServer:
    """A server with the embedded model's sizes, whose adapter gives every prefix `logit`."""
    sizes = {"vocab_size": 1024, "context_length": 512, "capacity": 4096}
    score = None if logit is None else lambda prefix: logit
    return FakeServer(stop_token_ids=(4, 5, 6, 7), score=score, **{**sizes, **settings})


def main() -> int:
    play = Play(**json.loads(os.environ["FAKE_PLAY"]))
    folder = Path(play.folder)
    starts = len(list(folder.glob("start-*"))) + 1
    flags = sys.argv[1:]
    (folder / f"start-{starts}").write_text(json.dumps(flags))
    (folder / "pids").open("a").write(f"{os.getpid()}\n")
    print("INFO 11-22 02:41:10 [model.py:12] Resolved architecture: LlamaForCausalLM", flush=True)
    if play.family:
        have_family(folder)
    if play.ignores_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    seqs = int(value(flags, "--max-num-seqs") or 0)
    big = play.dies_over_seqs is None or seqs > play.dies_over_seqs
    if play.dies_with and starts <= play.dies_times and big:
        print(f"Traceback (most recent call last):\n{play.dies_with}\n{SUMMED_UP}", flush=True)
        return 1
    time.sleep(3600 if play.hangs else play.loading_s)
    print("(APIServer pid=9) INFO 11-22 02:41:11 [x.py:1] Started server", flush=True)
    name = value(flags, "--served-model-name") or "somebody-else"
    port = int(value(flags, "--port") or 0)
    ends = die_at(play.requests)
    asyncio.run(serve(embedded_server(play.logit, name=name, port=port, on_request=ends)))
    return 0


def value(flags: list[str], name: str) -> str | None:
    return flags[flags.index(name) + 1] if name in flags else None


def have_family(folder: Path) -> None:
    sleep = [sys.executable, "-c", "import signal, time; time.sleep(3600)"]
    child = subprocess.Popen(sleep)
    # the middle one ends at once, so the last one has no parent but who adopts it
    middle = (
        "import subprocess, sys; "
        "print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=2).pid, flush=True)"
    )
    orphan = subprocess.run(
        [sys.executable, "-c", middle, *sleep], stdout=subprocess.PIPE, text=True
    )
    with (folder / "pids").open("a") as pids:
        pids.write(f"{child.pid}\n{orphan.stdout}")


async def serve(server: FakeServer) -> None:
    await server.start()
    await asyncio.Event().wait()


def die_at(most: int | None) -> Callable[[int], None]:
    """Ends the process when more than `most` completions are asked for."""

    def on_request(count: int) -> None:
        if most is not None and count > most:
            print("CUDA error: an illegal memory access", flush=True)
            os._exit(1)

    return on_request


if __name__ == "__main__":
    sys.exit(main())
