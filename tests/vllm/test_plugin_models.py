"""Every wrapped architecture through the plugin, against the two-pass reference and stock vLLM.

Two programs do all of it, because a start of vLLM is what takes the time: one runs everything on one
rank, the other one model on two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from solver.adapter.vllm.serving import BAN, read_logit
from tests.vllm.conftest import ROOT
from tests.vllm.tiny import CONFIGS, STOP_IDS, VOCABULARY, Tiny, draw_prefixes, make_tiny

pytestmark = pytest.mark.timeout(600)

STOCK = ("llama", "qwen3", "gpt_oss")  # also run without adapter
# around the block size of 32, and beyond gpt-oss's sliding window of 128
PREFIXES = draw_prefixes((3, 31, 32, 33, 64, 70, 200))
SAMPLINGS = [{"temperature": 0}, {"temperature": 1.0, "seed": 7}, {"temperature": 1.0, "seed": 8}]
SCORES = [
    {"ids": [*ids, *STOP_IDS], "params": {"max_tokens": 1, "temperature": 0, "logprobs": 2}}
    for ids in PREFIXES
]
# The same shapes in the same steps with and without adapter, so that rounding cannot differ. A random
# model likes every id, so the stock one is kept from [STOP] ids too.
BANNED = {"logit_bias": dict.fromkeys(STOP_IDS, -100)}
BASE = [
    {"ids": ids, "params": {"max_tokens": 24, "logprobs": 3} | BANNED | params}
    for ids in draw_prefixes((5, 40, 90), seed=4)
    for params in SAMPLINGS
]


def offline(folder: Path, jobs: list[dict[str, Any]], **environment: str) -> list[Any]:
    (folder / "jobs.json").write_text(json.dumps(jobs))
    program = Path(__file__).with_name("offline.py")
    done = subprocess.run(
        [sys.executable, program, folder / "jobs.json", folder / "results.json"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return list(json.loads((folder / "results.json").read_text()))


def logits(completions: list[Any]) -> list[float]:
    """The scores of the first completions, those of `SCORES`."""
    tops = [completion["top"][0] for completion in completions[: len(SCORES)]]
    return [read_logit({int(token): top[token] for token in top}) for top in tops]


@pytest.fixture(scope="module")
def tinies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tiny]:
    folder = tmp_path_factory.mktemp("tiny")
    return {name: make_tiny(name, folder / name) for name in CONFIGS}


@pytest.fixture(scope="module")
def results(tinies: dict[str, Tiny], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one program found, by the name of the job."""
    llama, qwen3 = tinies["llama"], tinies["qwen3"]
    jobs: dict[str, dict[str, Any]] = {}
    for name, tiny in tinies.items():
        jobs[f"{name} stop"] = {"options": tiny.stop_options, "prompts": SCORES + BASE}
        if name in STOCK:
            jobs[f"{name} stock"] = {"options": tiny.options, "prompts": SCORES + BASE}
    changes = {
        "compiled": {"enforce_eager": False},
        "bfloat16": {"dtype": "bfloat16"},
        "float16": {"dtype": "float16"},
        "lora": {"enable_lora": True},
        "no ban": {"logits_processors": None},
        "no adapter": {"additional_config": {}},
        "another model's adapter": {"model": qwen3.options["model"]},
    }
    for name, change in changes.items():
        jobs[name] = {"options": llama.stop_options | change, "prompts": SCORES}
    found = offline(tmp_path_factory.mktemp("jobs"), list(jobs.values()))
    return dict(zip(jobs, found, strict=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_scores_equal_the_two_pass_reference(
    name: str, tinies: dict[str, Tiny], results: dict[str, Any]
) -> None:
    expected = tinies[name].scores(PREFIXES)
    assert logits(results[f"{name} stop"]) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.5


@pytest.mark.parametrize("name", STOCK)
def test_base_rows_beside_scores_have_the_bits_of_stock_vllm(
    name: str, results: dict[str, Any]
) -> None:
    ours, stock = (results[f"{name} {kind}"][len(SCORES) :] for kind in ("stop", "stock"))
    assert ours == stock
    assert len({tuple(completion["ids"]) for completion in ours}) == len(BASE)


def test_scores_of_a_compiled_model_are_the_same(
    tinies: dict[str, Tiny], results: dict[str, Any]
) -> None:
    expected = tinies["llama"].scores(PREFIXES)
    assert logits(results["compiled"]) == pytest.approx(expected, abs=1e-4)


def test_bfloat16_is_near(tinies: dict[str, Tiny], results: dict[str, Any]) -> None:
    expected = tinies["llama"].scores(PREFIXES)
    found = logits(results["bfloat16"])
    assert found == pytest.approx(expected, abs=0.3)
    assert found != torch.tensor(found).bfloat16().tolist()  # the score itself is not rounded to it


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (
            "float16",
            "ModelError: a STOP adapter cannot be served with float16 (use --dtype bfloat16)",
        ),
        ("lora", "ModelError: a STOP adapter cannot be served with LoRA adapters"),
        ("no ban", "ModelError: a STOP adapter is served with --logits-processors"),
        ("no adapter", "ModelError: the server is to serve a STOP adapter but was not told which"),
        ("another model's adapter", "was trained on another base model (llama, fingerprint"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    job: str, words: str, results: dict[str, Any]
) -> None:
    assert words in results[job]["error"]
    assert "\n" not in results[job]["error"]


def test_two_tensor_parallel_ranks_that_share_a_kv_head(
    tinies: dict[str, Tiny], tmp_path: Path
) -> None:
    tiny = tinies["qwen2"]
    assert tiny.model.config.num_key_value_heads == 1
    job = {"options": tiny.stop_options | {"tensor_parallel_size": 2}, "prompts": SCORES}
    [completions] = offline(tmp_path, [job], VLLM_CPU_OMP_THREADS_BIND="0|1")
    assert logits(completions) == pytest.approx(tiny.scores(PREFIXES), abs=1e-4)


@pytest.mark.filterwarnings("default")  # importing vLLM warns of its own matters
def test_the_second_model_runner_takes_the_ban_too(tinies: dict[str, Tiny]) -> None:
    from vllm.v1.worker.gpu.sample.logits_processor import (
        build_custom_logits_processors_params_validator,
    )

    from solver.adapter.vllm.ban import BanStopIds

    build_custom_logits_processors_params_validator([BAN])  # refuses classes that are none of its
    config = SimpleNamespace(additional_config=tinies["llama"].stop_options["additional_config"])
    ban = BanStopIds(config, SimpleNamespace(device=torch.device("cpu")))
    logits = ban.apply(torch.zeros(2, VOCABULARY), object())
    banned = torch.zeros(VOCABULARY, dtype=torch.bool)
    banned[list(STOP_IDS)] = True
    assert torch.equal(logits.isneginf(), banned.expand(2, -1))
