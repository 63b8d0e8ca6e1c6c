"""The fenced dialect: ```python blocks are calls, ```output blocks are answers, \\boxed{} concludes.

It serves every model with a chat template. A call is complete at the newline after its closing
fence, or when the model ends its turn right behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import prompts
from sandbox.limits import Limits
from sandbox.result import ExecutionResult, for_model
from solver.config import AnswerConfig
from solver.dialects.detokenize import Detokenizer
from solver.policy.answer import read_answer
from solver.types import Trajectory

_CALL_FENCES = frozenset({"```python", "```py"})
_FENCE = "```"


class FencedReader:
    """Follows the fences of one turn, line by line."""

    def __init__(self, detokenizer: Detokenizer, end_ids: frozenset[int]) -> None:
        self._detokenizer = detokenizer
        self._end_ids = end_ids
        self._line = ""
        self._fence: str | None = None
        self._code: list[str] = []
        self.call: str | None = None
        self.refusal: str | None = None  # every complete block is code to run
        self.ended = False

    @property
    def inside_block(self) -> bool:
        """Whether a block is open."""
        return self._fence is not None

    def feed(self, token_id: int) -> None:
        """Read the next sampled id; everything after a complete call is ignored."""
        if self.call is not None:
            return
        if token_id in self._end_ids:
            self.ended = True
            self._read_line(self._line)
            return
        self._line += self._detokenizer.feed(token_id)
        while "\n" in self._line and self.call is None:
            line, _, self._line = self._line.partition("\n")
            self._read_line(line)

    def _read_line(self, line: str) -> None:
        mark = line.strip()
        if self._fence is None:
            if mark.startswith(_FENCE):
                self._fence, self._code = mark, []
        elif mark == _FENCE:
            if self._fence in _CALL_FENCES:
                self.call = "\n".join(self._code)
            self._fence = None
        else:
            self._code.append(line)


class FencedDialect:
    """Binds the format to a Hugging Face tokenizer and a prompt template of `prompts/`.

    `limits` are those of the run's kernels: the model is told no others.
    """

    def __init__(self, tokenizer: Any, prompt: str, limits: Limits) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._limits = limits
        self.stop_token_ids = frozenset({int(tokenizer.eos_token_id)})
        padding = {tokenizer.pad_token_id} - {None, tokenizer.eos_token_id}
        reserved = {
            token_id
            for token, token_id in tokenizer.get_added_vocab().items()
            if token.startswith("<|stop_")
        }
        self.banned_token_ids = frozenset(padding | reserved)
        self._turn_break = _turn_break(tokenizer)

    def reserve(self, token_ids: Sequence[int]) -> None:
        """Ban these ids too: an adapter uses them as [STOP]."""
        self.banned_token_ids |= frozenset(token_ids)

    def prompt(self, statement: str) -> list[int]:
        """The chat template over one user message, ready for the model to write."""
        message = {"role": "user", "content": prompts.render(self._prompt, statement=statement)}
        text = self._tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
        return self._encode(text)

    def reader(self, token_ids: Sequence[int] = ()) -> FencedReader:
        """A reader of one turn that has read `token_ids` already."""
        reader = FencedReader(Detokenizer(self.text), self.stop_token_ids)
        for token_id in token_ids:
            reader.feed(token_id)
        return reader

    def tool_message(self, trajectory: Trajectory, result: ExecutionResult) -> list[int]:
        """The output block; in a user turn of its own if the model had ended its turn."""
        block = f"```output\n{for_model(result, self._limits)}\n```\n"
        if trajectory.turns[-1].token_ids[-1] in self.stop_token_ids:
            before, after = self._turn_break
            return self._encode(before + block + after)
        return self._encode(block)

    def final_opening(self, trajectory: Trajectory) -> list[int]:
        """Close an open block and an open thought, then begin the final answer."""
        written = self.text(trajectory.token_ids)
        opening = "" if written.endswith("\n") else "\n"
        if self.reader(trajectory.turns[-1].token_ids).inside_block:
            opening += f"{_FENCE}\n"
        if written.rfind("<think>") > written.rfind("</think>"):
            opening += "</think>\n\n"
        return self._encode(opening + "The answer is \\boxed{")

    def answer(self, trajectory: Trajectory, rule: AnswerConfig) -> int | None:
        """The last readable box in range, in what the model wrote or was made to begin."""
        pieces = []
        for turn in trajectory.turns:
            pieces.append(self.text([i for i in turn.token_ids if i not in self.stop_token_ids]))
            # A forced opening belongs to the model's own text, a tool's output does not.
            forced = turn.execution is None
            pieces.append(self.text(turn.appended_token_ids) if forced else "\n")
        return read_answer("".join(pieces), rule)

    def text(self, token_ids: Sequence[int]) -> str:
        """Ids as text, special tokens shown."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def _turn_break(tokenizer: Any) -> tuple[str, str]:
    """What the chat template puts around a user message that follows the model's ended turn."""
    said, asked = "SAIDBYTHEMODEL", "ASKEDBYTHEUSER"
    text = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "."},
            {"role": "assistant", "content": said},
            {"role": "user", "content": asked},
        ],
        add_generation_prompt=True,
        tokenize=False,
    )
    before, _, after = text.partition(said)[2].partition(asked)
    return before.removeprefix(tokenizer.eos_token), after
