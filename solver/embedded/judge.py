"""Whether a problem is of a kind that the embedded model was trained on, by its prompt's probability.

It was trained on its own problem families only. It answers other problems too, and the run marks them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from solver.embedded.paths import WEIGHTS
from solver.ports import Engine

UNFAMILIAR = "outside of what the embedded model knows"


def prompt_judge(engine: Engine) -> Callable[[list[int]], Awaitable[str | None]]:
    """A judge of rendered prompts: UNFAMILIAR when the mean log-probability is below the threshold."""
    threshold = float(json.loads((WEIGHTS / "embedded.json").read_text())["familiarity_threshold"])

    async def judge(prompt: list[int]) -> str | None:
        logprobs = await engine.prompt_logprobs(prompt[: engine.capabilities.context_length])
        return UNFAMILIAR if sum(logprobs) / len(logprobs) < threshold else None

    return judge
