"""Tiny models, a random life of many trajectories, and what counts as the same tokens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from solver.engines.sampler import Sampler, uniforms
from solver.engines.transformers import TransformersEngine
from solver.types import Chunk, SamplingParams

VOCAB, CONTEXT = 199, 256
_KINDS = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
KINDS = tuple(_KINDS)


def tiny_config(kind: str, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,  # peaked distributions, like a trained model's
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if kind == "mistral":
        settings["sliding_window"] = None
    return _KINDS[kind](**settings | changes)


def tiny_model(kind: str, **changes: Any) -> Any:
    """Always the same weights for the same kind."""
    torch.manual_seed(5)
    return AutoModelForCausalLM.from_config(tiny_config(kind, **changes)).eval()


def params(max_tokens: int, seed: int = 0, **changes: Any) -> SamplingParams:
    return SamplingParams(max_tokens, seed, **changes)


def greedy(max_tokens: int, **changes: Any) -> SamplingParams:
    return SamplingParams(max_tokens, 0, temperature=0.0, **changes)


def prompt(length: int, seed: int = 0) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(VOCAB) for _ in range(length)]


@dataclass
class Said:
    """Everything one request answered."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def reason(self) -> Any:
        return self.chunks[-1].finish_reason

    @property
    def counts(self) -> tuple[int, int]:
        """Reused and encoded ids; one chunk of a request tells them."""
        reused = sum(chunk.reused_tokens for chunk in self.chunks)
        return reused, sum(chunk.encoded_tokens for chunk in self.chunks)


async def say(
    engine: Any, name: str, ids: Sequence[int], how: SamplingParams, stop_after: int | None = None
) -> Said:
    """Run a request to its end, or close it once `stop_after` ids have come."""
    said = Said()
    stream = engine.generate(name, ids, how)
    async for chunk in stream:
        said.chunks.append(chunk)
        said.ids += chunk.token_ids
        said.logprobs += chunk.logprobs
        if stop_after is not None and len(said.ids) >= stop_after:
            break
    await stream.aclose()
    return said


@dataclass
class Segment:
    """What was sampled after `before`."""

    before: list[int]
    said: Said
    how: SamplingParams


async def random_life(
    engine: TransformersEngine, seed: int, rows: int = 10, **how: Any
) -> list[Segment]:
    """Rows that join, leave, pause, get cancelled, get tool tokens and are released, at random."""
    segments = []

    async def live(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        shared = prompt(20, seed)[: draw.choice([0, 10, 20])]
        ids = shared + prompt(draw.randint(1, 30), number)
        for _ in range(3):
            await asyncio.sleep(draw.random() * 0.02)
            wish = SamplingParams(draw.randint(2, 15), number, **how)
            cut = draw.choice([None, draw.randint(1, wish.max_tokens)])
            said = await say(engine, str(number), ids, wish, cut)
            segments.append(Segment(list(ids), said, wish))
            ids += said.ids + prompt(draw.choice([0, 1, 5, 40]), number + 1000)
            if draw.random() < 0.2:
                await engine.release(str(number))
            if draw.random() < 0.3:
                await engine.probe([(str(number), ids)], [1, 2, 3])

    await asyncio.gather(*(live(number) for number in range(rows)))
    return segments


@torch.no_grad()
def next_logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Logits `[1, vocab]` after ids, by a full forward."""
    return model(torch.tensor([ids], device=model.device), use_cache=False).logits[:, -1].float()


@torch.no_grad()
def full_logprobs(model: Any, ids: Sequence[int], start: int) -> list[float]:
    """Log-probabilities of `ids[start:]`, by a full forward."""
    tensor = torch.tensor([ids], device=model.device)
    logprobs = model(tensor, use_cache=False).logits[0].float().log_softmax(-1)
    return [float(logprobs[place - 1, ids[place]]) for place in range(start, len(ids))]


def generated(model: Any, ids: list[int], count: int) -> list[int]:
    tensor = torch.tensor([ids], device=model.device)
    output = model.generate(
        tensor,
        attention_mask=torch.ones_like(tensor),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )
    return output[0, len(ids) :].tolist()


def assert_same(
    model: Any,
    before: list[int],
    one: list[int],
    other: list[int],
    how: SamplingParams,
    tolerance: float = 1e-4,
) -> None:
    """The same tokens; or, where they part, a numeric tie.

    Log-probabilities carry noise (1e-6 in float32) that depends on what else is in the step. Greedy
    rows may part where the two best logits lie within `tolerance`; sampled ones where the uniform
    number lies within `tolerance` of the boundary between the two tokens.
    """
    if one == other:
        return
    assert len(one) == len(other)
    place = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    logits = next_logits(model, before + one[:place])
    if how.temperature == 0:
        gap = float((logits[0, one[place]] - logits[0, other[place]]).abs())
        assert gap < tolerance, f"token {place} differs with a gap of {gap}"
        return
    sampler = Sampler([how], logits.shape[1], logits.device)
    cdf = sampler.distribution(logits).cumsum(-1)[0]
    draw = uniforms(sampler.seeds, [len(before) + place])[0]
    distance = float((cdf - draw).abs().min())
    assert distance < tolerance, f"token {place} differs, {distance} from a boundary"
