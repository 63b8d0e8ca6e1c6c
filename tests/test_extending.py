"""What docs/extending.md shows works as it stands there."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus
from solver.config import AnswerConfig
from solver.dialects.base import Dialect
from solver.embedded.families import answer_of, is_sound
from solver.engines.transformers import TransformersEngine
from solver.runs.settings import load_config
from solver.types import Trajectory, Turn
from tests.engines.helpers import params, prompt, say, tiny_model
from tests.support import byte_tokenizer

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"


def blocks(heading: str, language: str) -> list[str]:
    """The fenced blocks of one language under a heading of the document."""
    text = DOCUMENT.read_text("utf-8")
    section = text[text.index(f"\n## {heading}\n") :].split("\n## ", 2)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)


def defined(heading: str) -> dict[str, Any]:
    """The names that the first Python block under a heading defines."""
    names: dict[str, Any] = {}
    exec(compile(blocks(heading, "python")[0], f"{DOCUMENT}: {heading}", "exec"), names)
    return names


async def test_the_engine_samples_what_ours_samples() -> None:
    model = tiny_model("llama")
    theirs = defined("An engine")["PlainEngine"](copy.deepcopy(model), context_length=96)
    drawn = params(12, seed=3, temperature=0.8, top_k=9)
    async with TransformersEngine(model, context_length=96) as ours:
        expected = await say(ours, "a", prompt(9), drawn)
        found = await say(theirs, "a", prompt(9), drawn)
        assert (found.ids, found.reason, found.counts) == (
            expected.ids,
            expected.reason,
            expected.counts,
        )
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-5)
        assert await theirs.prompt_logprobs(prompt(20)) == pytest.approx(
            await ours.prompt_logprobs(prompt(20)), abs=1e-5
        )


def test_the_preset_is_a_config(tmp_path: Path) -> None:
    file = tmp_path / "small-chat.toml"
    file.write_text(blocks("A preset", "toml")[0], encoding="utf-8")
    config = load_config(config_file=file, sets=[f"model.path={tmp_path}"])
    assert (config.prune.launch, config.prune.keep, config.prune.mark) == (16, 6, 96)


def test_the_family_is_sound() -> None:
    family = defined("A family of the embedded model")["REMAINDERS"]
    rng = Random(1)
    drawn = [family.sample(rng) for _ in range(50)]
    sound = [numbers for numbers in drawn if is_sound(family, numbers)]
    assert len(sound) > 25
    for numbers in sound:
        answers = {answer_of(family, reading, numbers) for reading in family.readings}
        assert len(answers) == 2, "the wording decides"


def test_the_dialect_reads_calls_and_is_told_results() -> None:
    dialect: Dialect = defined("A dialect")["TaggedDialect"](byte_tokenizer(), "bare", Limits())
    code = "print(6 * 7)"
    turn = dialect.reader()
    for token in byte_tokenizer().encode(f"I count.<tool>{code}</tool> 42"):
        assert turn.call is None or turn.call == code
        turn.feed(token)
    assert (turn.call, turn.refusal, turn.ended) == (code, None, False)

    cut = Trajectory("p", 0, 0, tuple(dialect.prompt("6 * 7?")))
    cut.turns[-1].token_ids += byte_tokenizer().encode("I count.<tool>print(6")
    result = ExecutionResult(status=ExecutionStatus.OK, stdout="42 <|end|>")
    told = dialect.tool_message(cut, result)
    assert "<result>\n42 <|end|>" in dialect.text(told)
    assert dialect.stop_token_ids.isdisjoint(told), "what a tool prints ends no turn"

    cut.turns[-1].appended_token_ids = tuple(dialect.final_opening(cut))
    assert "</tool>" in dialect.text(cut.turns[-1].appended_token_ids)
    cut.turns.append(Turn(token_ids=byte_tokenizer().encode("42}")))
    assert dialect.answer(cut, AnswerConfig()) == 42
