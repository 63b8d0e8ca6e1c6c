"""What a smaller number format costs in answers: python -m benchmarks.precision MODEL PROBLEMS --out FOLDER

In each of `--dtypes`, on the same problems: how likely the model finds their statements (negative
log-likelihood a token) and how many of them one greedy trajectory with tools gets right. Differences to
the first dtype are taken problem by problem; brackets are 95 % intervals over problems. The runs lie in
FOLDER; started again, it goes on where it was.
"""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from solver.cli.app import run_app
from solver.config import ModelConfig
from solver.engines.loading import load_model
from solver.engines.tokenizer import load_tokenizer
from solver.errors import ConfigError
from solver.files.problems import load_problems
from solver.files.tables import markdown_table
from solver.journal.recorded_run import ProblemReader
from solver.policy.statistics import Interval, difference_interval, mean_interval, ratio_interval
from solver.types import Problem

app = typer.Typer(add_completion=False)


@torch.inference_mode()
def unlikelihood(
    model: str, dtype: str, problems: Sequence[Problem]
) -> tuple[list[float], list[int]]:
    """Of each statement: the negative log-likelihood behind its first token, summed, and of how many."""
    tokenizer = load_tokenizer(Path(model))
    loaded = load_model(ModelConfig(path=model, dtype=dtype, device="cpu"))
    sums, counts = [], []
    for problem in problems:
        ids = torch.tensor([tokenizer.encode(problem.statement, add_special_tokens=False)])
        logits = loaded(ids).logits[0, :-1].float()
        sums.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")))
        counts.append(ids.shape[1] - 1)
    del loaded
    gc.collect()
    return sums, counts


def right(model: str, dtype: str, problems: Path, run: Path, threads: int) -> dict[str, float]:
    """By problem, 1 where one greedy trajectory was right, else 0."""
    if (run / "journal.jsonl").exists():
        words = ["--resume", str(run)]
    else:
        settings = {
            "model.dtype": dtype, "model.threads": threads, "model.context_length": 2048,
            "sampling.temperature": 0, "sampling.max_tokens": 512, "sampling.max_turns": 4,
            "prune.launch": 1, "prune.keep": 1, "prune.mark": 64, "budget.problems_at_once": 24,
        }  # fmt: skip
        words = [str(problems), "--preset", "general", "--model", model, "--run-dir", str(run)]
        words += ["--output", str(run) + ".csv"]
        words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    if subprocess.run([sys.executable, "-m", "solver.run", *words], check=False).returncode:
        raise ConfigError(f"the run in {run} failed; its last lines say why")
    solved = [one.solved for one in ProblemReader(run)]
    answers = {one.problem_id: one.answer for one in solved if one is not None}
    return {one.id: float(answers[one.id] == one.answer) for one in load_problems(problems)}


@app.command()
def main(
    model: Annotated[str, typer.Argument(help="a GGUF file or a folder")],
    problems: Annotated[Path, typer.Argument(help="problems with answers")],
    out: Annotated[Path, typer.Option(help="folder of the runs")],
    dtypes: Annotated[str, typer.Option(help="the first is what others are compared with")] = (
        "float32,bfloat16,int8"
    ),
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    asked = load_problems(problems)
    found = []
    for dtype in dtypes.split(","):
        kept = out / f"{dtype}.json"
        if not kept.exists():
            kept.write_text(json.dumps(unlikelihood(model, dtype, asked)))
        sums, counts = json.loads(kept.read_text())
        share = right(model, dtype, problems, out / dtype, threads)
        found.append((dtype, sums, counts, [share[problem.id] for problem in asked]))
    _, base, _, base_right = found[0]
    lines = []
    for dtype, sums, counts, got in found:
        changed = ratio_interval([a - b for a, b in zip(sums, base, strict=True)], counts)
        lines.append(
            [
                dtype,
                f"{math.exp(sum(sums) / sum(counts)):.3f}",
                _shown(changed, "+.4f"),
                _shown(mean_interval(got), ".1%"),
                _shown(difference_interval(got, base_right), "+.1%"),
            ]
        )
    head = ["dtype", "perplexity", "nats a token more", "right", "right more often"]
    print(f"{Path(model).name}, {len(asked)} problems of {problems.name}\n")
    print("\n".join(markdown_table(head, lines)))


def _shown(one: Interval, form: str) -> str:
    return f"{one.value:{form}} [{one.low:{form}}, {one.high:{form}}]"


if __name__ == "__main__":
    sys.exit(run_app(app, None))
