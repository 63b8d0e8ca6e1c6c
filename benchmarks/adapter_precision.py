"""How far an adapter's scores move in a smaller number format:

    python -m benchmarks.adapter_precision MODEL ADAPTER FILE.rollouts.jsonl --mark 80

The same prefixes, at the mark, of the first `--num` problems are scored over the base model in each of
`--dtypes`. Differences are those of the logits to the first dtype, prefix by prefix.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from solver.adapter.folder import load_adapter
from solver.adapter.gate import StopGate
from solver.adapter.score import score_prefixes
from solver.cli.app import run_app
from solver.config import ModelConfig
from solver.engines.loading import load_model
from solver.errors import ConfigError
from solver.files.tables import markdown_table, plain
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.metrics import within_auroc
from solver.stop.rollouts.collect import label
from solver.stop.rollouts.examples import StopExample
from solver.stop.rollouts.file import read_rollouts

app = typer.Typer(add_completion=False)


def scores(model: str, adapter: Path, dtype: str, examples: list[StopExample]) -> np.ndarray:
    """The logit of each prefix, `[prefixes]`, over the model in this dtype."""
    base = load_model(ModelConfig(path=model, dtype=dtype, device="cpu"))
    gate = StopGate.attach(base, load_adapter(adapter, Path(model)).adapter)
    found = score_prefixes(base, gate, [example.prefix_token_ids for example in examples])
    del base, gate
    gc.collect()
    return found.double().numpy()


@app.command()
def main(
    model: Annotated[str, typer.Argument(help="a GGUF file or a folder")],
    adapter: Annotated[Path, typer.Argument(help="folder of the adapter")],
    rollouts: Annotated[Path, typer.Argument(help="file of collect, evaluate or restore")],
    mark: Annotated[int, typer.Option(min=1, help="tokens sampled so far")],
    num: Annotated[int, typer.Option(min=1, help="problems")] = 20,
    dtypes: Annotated[str, typer.Option(help="the first is what others are compared with")] = (
        "float32,bfloat16,int8"
    ),
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    quiet_transformers()
    torch.set_num_threads(threads)
    _, units = read_rollouts(rollouts)
    examples = [example for unit in units[:num] for example in label(unit, mark)]
    if not examples:
        raise ConfigError(f"no rollout of the first {num} problems reaches mark {mark}")
    labels = np.array([example.soft_label for example in examples])
    weights = np.array([example.weight for example in examples])
    problem_ids = [example.problem_id or "" for example in examples]
    lines, base = [], None
    for dtype in dtypes.split(","):
        logits = scores(model, adapter, dtype, examples)
        base = logits if base is None else base
        moved = np.abs(logits - base)
        order = within_auroc(logits, labels, weights, problem_ids)
        lines.append(
            [
                dtype,
                *(f"{value:.3f}" for value in (*np.quantile(moved, (0.5, 0.95)), moved.max())),
                plain(order),
            ]
        )
    head = ["dtype", "moved, median", "95 %", "most", "AUROC within problems"]
    print(f"{Path(model).name}, {adapter.name}, mark {mark}: {len(examples)} prefixes\n")
    print("\n".join(markdown_table(head, lines)))


if __name__ == "__main__":
    sys.exit(run_app(app, None))
