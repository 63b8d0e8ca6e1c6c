"""Plays a vLLM server: `python fake_server.py FLAGS...`, told how to behave by FAKE_PLAY (JSON).

It takes the flags that a real one gets, and answers /health, /v1/models, /metrics and /v1/completions.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
    # what it serves
    vocab_size: int = 1024
    context_length: int = 512
    capacity: int | None = 4096
    logit: float | None = 0.25  # None: no plugin
    caches: bool = True
    own_logprobs: bool = True


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
    with serve(play, name, int(value(flags, "--port") or 0)) as server:
        server.serve_forever()
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


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, play: Play, name: str, port: int) -> None:
        self.play, self.name = play, name
        self.seen: set[str] = set()
        self.asked = 0
        super().__init__(("127.0.0.1", port), Handler)


def serve(play: Play, name: str, port: int = 0) -> Server:
    return Server(play, name, port)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        play = self.server.play
        if self.path == "/v1/models":
            card = {"id": self.server.name, "root": "/m", "max_model_len": play.context_length}
            self.answer({"data": [card]})
        elif self.path == "/metrics" and play.capacity is not None:
            labels = f'{{block_size="16",kv_cache_size_tokens="{play.capacity}"}}'
            self.answer(f"vllm:cache_config_info{labels} 1.0\n")
        else:
            self.answer("", 200 if self.path == "/health" else 404)

    def do_POST(self) -> None:
        play, server = self.server.play, self.server
        server.asked += 1
        if play.requests is not None and server.asked > play.requests:
            print("CUDA error: an illegal memory access", flush=True)
            os._exit(1)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for token in map(int, body.get("logit_bias", {})):
            if token >= play.vocab_size:
                said = f"token_id(s) [{token}] in logit_bias contain out-of-vocab token ids."
                said += f" Vocabulary size: {play.vocab_size}"
                return self.answer({"error": {"message": said, "code": 400}}, 400)
        return self.answer(self.completion(body))

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        play = self.server.play
        ids = body["prompt"]
        if ids[-4:] == [4, 5, 6, 7] and play.logit is not None:
            best = two_classes(play.logit)
        else:
            best = {f"token_id:{i}": -1.0 - 0.5 * i for i in range(body["logprobs"])}
            if body["temperature"] > 0 and not play.own_logprobs:  # what is left after top-k
                best = {name: 0.0 if name == "token_id:0" else -9999.0 for name in best}
        known = json.dumps(ids)
        cached = len(ids) // 16 * 16 if play.caches and known in self.server.seen else 0
        self.server.seen.add(known)
        usage = {"prompt_tokens": len(ids), "prompt_tokens_details": {"cached_tokens": cached}}
        return {"choices": [{"logprobs": {"top_logprobs": [best]}}], "usage": usage}

    def answer(self, what: Any, status: int = 200) -> None:
        data = (what if isinstance(what, str) else json.dumps(what)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def two_classes(logit: float) -> dict[str, float]:
    from math import exp, log1p

    right = -log1p(exp(-logit))
    return {"token_id:1": right, "token_id:0": right - logit}


class InThread:
    """A fake in this process, for who only asks; may be closed and opened again on its port."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._thread: threading.Thread | None = None
        self.open()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def open(self, port: int = 0) -> None:
        """Serve, on `port` if it is to be a certain one."""
        self.server = serve(self._play, "fake", port)
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        if self._thread is not None:
            self.server.shutdown()
            self._thread.join()
            self._thread = None
            self.server.server_close()


if __name__ == "__main__":
    sys.exit(main())
