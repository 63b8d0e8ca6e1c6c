"""A real model on this machine, five ways: python -m benchmarks.real_model FILE.gguf

Ours, llama.cpp (`pip install --editable '.[bench]'`) asked once a stream, llama.cpp asked once for all
streams (`n`, which reads their prompt once), `generate` of transformers and, where it is installed, vLLM
sample as the solver does: all streams behind one prompt, as many tokens, with the same settings and threads.
Each has a process of its own that loads the model once; rounds are interleaved, and a round's ratio is
ours against that side in the same round. Time counts from the first request to the last token. A request
for one token a stream goes before; what is left without it is shown as "sampled". Prompts are random ids,
new ones each time, and no id ends a sequence. vLLM and `generate` read `--folder`, where it is given.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Self

import typer

from solver.cli.app import run_app
from solver.errors import ConfigError
from solver.files.tables import markdown_table

TEMPERATURE, TOP_K, TOP_P = 0.7, 40, 0.95
TARGETS = {24: 3.0, 8: 2.0, 1: 0.8}  # ours against llama.cpp, by streams
LONGEST = 4096  # tokens of a sequence, prompt included
_PLAIN_IDS = 1000  # the lowest ids of a vocabulary: bytes and short words
_VLLM = Path(".venv-vllm/bin/python")

app = typer.Typer(add_completion=False)
Sample = Callable[[list[int], int, int], int]  # prompt, streams, tokens each -> tokens sampled


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of a side: `cpu_s` of all its threads, `peak_bytes` of its process so far."""

    tokens: int
    seconds: float
    cpu_s: float
    peak_bytes: int

    @property
    def per_s(self) -> float:
        return self.tokens / self.seconds

    def without(self, first: Measured) -> Measured:
        """What is left of a round without its prompt and the first token of each stream."""
        return Measured(
            self.tokens - first.tokens,
            self.seconds - first.seconds,
            self.cpu_s - first.cpu_s,
            self.peak_bytes,
        )


def ours(model: Path, folder: Path | None, threads: int, dtype: str, streams: int) -> Sample:
    import torch

    from solver.config import ModelConfig
    from solver.engines.loading import load_model
    from solver.engines.transformers import TransformersEngine
    from solver.types import SamplingParams

    torch.set_num_threads(threads)
    loaded = load_model(ModelConfig(path=str(model), dtype=dtype, device="cpu"))

    async def one(engine: TransformersEngine, number: int, prompt: list[int], new: int) -> int:
        params = SamplingParams(new, seed=number, temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P)
        chunks = engine.generate(str(number), prompt, params)
        return sum([len(chunk.token_ids) async for chunk in chunks])

    async def all_of(prompt: list[int], streams: int, new: int) -> int:
        async with TransformersEngine(loaded) as engine:
            asked = (one(engine, number, prompt, new) for number in range(streams))
            return sum(await asyncio.gather(*asked))

    return lambda prompt, streams, new: asyncio.run(all_of(prompt, streams, new))


def llama_cpp(model: Path, folder: Path | None, threads: int, dtype: str, streams: int) -> Sample:
    ask = _llama_server(model, threads, streams)

    def all_of(prompt: list[int], streams: int, new: int) -> int:
        with ThreadPoolExecutor(streams) as pool:
            return sum(pool.map(lambda number: ask(prompt, new, 1, number), range(streams)))

    return all_of


def llama_cpp_n(model: Path, folder: Path | None, threads: int, dtype: str, streams: int) -> Sample:
    ask = _llama_server(model, threads, streams)
    return lambda prompt, streams, new: ask(prompt, new, streams, 0)


def _llama_server(model: Path, threads: int, streams: int) -> Callable[..., int]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_parallel, params.n_ctx = streams, streams * LONGEST
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.fit_params = params.ctx_shift = params.warmup = False
    server = xllamacpp.Server(params)

    def ask(prompt: list[int], new: int, copies: int, seed: int) -> int:
        settings = {"temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P, "min_p": 0.0}
        fixed = {"ignore_eos": True, "seed": seed, "max_tokens": new, "n": copies}
        answer = server.handle_completions({"prompt": prompt, **settings, **fixed})
        assert len(answer["choices"]) == copies
        return copies * int(answer["usage"]["completion_tokens"])

    return ask


def generate(model: Path, folder: Path | None, threads: int, dtype: str, streams: int) -> Sample:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    given: dict[str, Any] = {} if folder else {"gguf_file": model.name}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder or model.parent, local_files_only=True, dtype=torch.float32, **given
    )
    loaded.eval()

    def all_of(prompt: list[int], streams: int, new: int) -> int:
        ids = torch.tensor([prompt] * streams)
        said = loaded.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=TOP_K,
            top_p=TOP_P,
            repetition_penalty=1.0,
            min_new_tokens=new,
            max_new_tokens=new,
            pad_token_id=0,
        )
        return int(said[:, ids.shape[1] :].numel())

    return all_of


def vllm(model: Path, folder: Path | None, threads: int, dtype: str, streams: int) -> Sample:
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_OMP_THREADS_BIND="nobind")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM, SamplingParams, TokensPrompt

    engine = LLM(
        str(folder or model),
        max_model_len=LONGEST,
        max_num_seqs=streams,
        dtype="bfloat16",
        enforce_eager=True,
    )

    def all_of(prompt: list[int], streams: int, new: int) -> int:
        settings = [
            SamplingParams(
                temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P, seed=number,
                max_tokens=new, ignore_eos=True,
            )
            for number in range(streams)
        ]  # fmt: skip
        asked = [TokensPrompt(prompt_token_ids=prompt)] * streams
        return sum(
            len(o.outputs[0].token_ids) for o in engine.generate(asked, settings, use_tqdm=False)
        )

    return all_of


SIDES = {
    "ours": ours,
    "llama.cpp": llama_cpp,
    "llama.cpp n": llama_cpp_n,
    "generate": generate,
    "vllm": vllm,
}


class Side:
    """A process that has loaded the model its way, and samples when it is asked to."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        """Raises `ConfigError` if it cannot load the model."""
        self.name = name
        python = str(_VLLM) if name == "vllm" and _VLLM.exists() else sys.executable
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.real_model", "--serve", json.dumps({"name": name, **given})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(given["threads"])},
        )
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()
        self._answer()

    def sample(self, prompt: list[int], streams: int, new: int) -> Measured:
        """Ask it to sample `new` tokens in each of `streams` streams behind the prompt."""
        assert self._process.stdin is not None
        asked = {"prompt": prompt, "streams": streams, "new": new}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Measured(**self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # libraries print there too
            if line.startswith("{"):
                return json.loads(line)
        self._reader.join()
        reason = next((line for line in reversed(self._errors) if line.strip()), "no reason given")
        raise ConfigError(f"{self.name} does not run here: {reason.strip()}")

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors += self._process.stderr


def serve(given: dict[str, Any]) -> None:
    """In a side's process: load, then answer each line of standard input with a line."""
    name, model, folder = given["name"], Path(given["model"]), given["folder"]
    sample = SIDES[name](
        model, Path(folder) if folder else None, given["threads"], given["dtype"], given["streams"]
    )
    print("{}", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began, cpu = time.perf_counter(), time.process_time()
        tokens = sample(asked["prompt"], asked["streams"], asked["new"])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        measured = Measured(tokens, time.perf_counter() - began, time.process_time() - cpu, peak)
        print(json.dumps(asdict(measured)), flush=True)


def compare(
    sides: Sequence[Side], streams: int, prompt: int, new: int, rounds: int
) -> list[list[str]]:
    """A line a side for so many streams: medians, and the median and range of the rounds' ratios."""
    draw = random.Random(streams)
    whole: dict[str, list[Measured]] = {side.name: [] for side in sides}
    sampled: dict[str, list[Measured]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        before, now = [[draw.randrange(_PLAIN_IDS) for _ in range(prompt)] for _ in range(2)]
        for side in sides:
            first, all_ = side.sample(before, streams, 1), side.sample(now, streams, new)
            assert (first.tokens, all_.tokens) == (streams, streams * new), side.name
            if number:  # the first one warms up
                whole[side.name].append(all_)
                sampled[side.name].append(all_.without(first))
    return [
        [
            str(streams),
            name,
            f"{median(one.per_s for one in whole[name]):.1f}",
            f"{median(one.per_s for one in sampled[name]):.1f}",
            f"{1000 * median(one.cpu_s / one.tokens for one in whole[name]):.1f}",
            f"{max(one.peak_bytes for one in whole[name]) / 1e9:.2f}",
            *_ratios(name, whole, TARGETS.get(streams)),
            *_ratios(name, sampled, None)[:1],
        ]
        for name in whole
    ]


def _ratios(name: str, found: dict[str, list[Measured]], goal: float | None) -> list[str]:
    """Ours against that side: median and range of the rounds, and the target where there is one."""
    if name == "ours":
        return ["", ""]
    ratios = [mine.per_s / one.per_s for mine, one in zip(found["ours"], found[name], strict=True)]
    ratio = median(ratios)
    aimed = "" if goal is None or name != "llama.cpp" else f"{goal}{' SHORT' * (ratio < goal)}"
    return [f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})", aimed]


@app.command()
def main(
    model: Annotated[Path, typer.Argument(help="a GGUF file")] = Path(),
    folder: Annotated[
        Path | None, typer.Option(help="the same model for generate and vLLM  [the file]")
    ] = None,
    sides: Annotated[str, typer.Option(help="in the order of a round")] = ",".join(list(SIDES)[:4]),
    streams: Annotated[str, typer.Option(help="at once, such as 24,8,1")] = "24,8,1",
    prompt: Annotated[int, typer.Option(min=1, help="ids of the prompt")] = 64,
    new: Annotated[int, typer.Option(min=2, help="tokens sampled in each stream")] = 64,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    dtype: Annotated[str, typer.Option(help="of ours")] = "auto",
    served: Annotated[str | None, typer.Option("--serve", hidden=True)] = None,
) -> None:
    if served is not None:
        return serve(json.loads(served))
    counts = [int(word) for word in streams.split(",")]
    names = ["ours", *(name for name in sides.split(",") if name != "ours")]
    if unknown := set(names) - set(SIDES):
        raise ConfigError(f"no side {min(unknown)!r}; there are {', '.join(SIDES)}")
    if not model.is_file():
        raise ConfigError(f"{model} is no file: give a GGUF file")
    given = {"model": str(model), "folder": str(folder) if folder else None, "dtype": dtype}
    with ExitStack() as stack:
        running = [
            stack.enter_context(Side(n, {**given, "threads": threads, "streams": max(counts)}))
            for n in names
        ]
        lines = [line for n in counts for line in compare(running, n, prompt, new, rounds)]
    head = ["streams", "", "tok/s", "sampled tok/s", "CPU ms a token", "peak GB"]
    head += ["ours / it", "target", "sampled, ours / it"]
    print(f"{model.name}: {prompt} + {new} tokens, {threads} threads, {rounds} rounds\n")
    print("\n".join(markdown_table(head, lines)))
    return None


if __name__ == "__main__":
    sys.exit(run_app(app, None))
