"""The fenced dialect: ```python blocks are calls, ```output blocks are answers, \\boxed{} concludes.

It serves every model with a chat template. A call is complete at the newline after its closing
fence, or when the model ends its turn right behind it. A turn that ends with a block that does not
run is answered in words.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import prompts
from sandbox.limits import Limits
from sandbox.result import ExecutionResult, for_model
from solver.config import AnswerConfig
from solver.dialects.detokenize import Detokenizer
from solver.dialects.plain import PlainText
from solver.errors import ConfigError
from solver.policy.answer import last_answer
from solver.policy.boxes import boxed, boxes_of
from solver.policy.fences import Fences
from solver.types import Trajectory, Turn

_OPENING = "The answer is \\boxed{"
_ASK = "What is the final answer?"
_NOT_RUN = "only a block that opens with ```python on a line of its own is run"


class FencedReader:
    """Follows the fences of one turn, line by line; see `solver.dialects.base.TurnReader`."""

    def __init__(self, detokenizer: Detokenizer, end_ids: frozenset[int]) -> None:
        self._detokenizer = detokenizer
        self._end_ids = end_ids
        self._line = ""
        self._fences = Fences()
        self.call: str | None = None
        self.refusal: str | None = None
        self.ended = False

    def feed(self, token_id: int) -> None:
        """Read the next sampled id; everything after a complete call is ignored."""
        if self.call is not None:
            return
        if token_id in self._end_ids:
            self._end()
            return
        piece = self._detokenizer.feed(token_id)
        self._line += piece
        if "\n" not in piece:
            return
        while "\n" in self._line and self.call is None:
            line, _, self._line = self._line.partition("\n")
            self._read(line)

    def open_fence(self) -> str:
        """What closes the block that is open where the turn stands; the turn is not read further."""
        if self.call is None:
            self._read(self._line)
        return self._fences.open_fence

    def _end(self) -> None:
        self.ended = True
        self._read(self._line)
        self._fences.end()
        if self.call is None and (block := self._fences.last) and not boxes_of(self._fences):
            self.call, self.refusal = block.code, _NOT_RUN

    def _read(self, line: str) -> None:
        block = self._fences.read(line)
        if block is not None and block.runs:
            self.call = block.code


class FencedDialect:
    """Binds the format to a Hugging Face tokenizer and a prompt template of `prompts/`.

    `limits` are those of the run's kernels: the model is told no others. A turn is ended by the
    tokenizer's eos, by the token that the chat template ends a turn with, and by `more_stop_ids`:
    those of the model's generation settings. Raises `ConfigError` for a template that does not exist or does
    not ask the problem.
    """

    def __init__(
        self, tokenizer: Any, prompt: str, limits: Limits, more_stop_ids: Collection[int] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._limits = limits
        self._turn_break = _turn_break(tokenizer)
        ends = {tokenizer.eos_token_id, self._turn_break.end_id, *more_stop_ids} - {None}
        self.stop_token_ids = frozenset(map(int, ends))
        padding = {tokenizer.pad_token_id} - {None, *self.stop_token_ids}
        reserved = {
            token_id
            for token, token_id in tokenizer.get_added_vocab().items()
            if token.startswith("<|stop_")
        }
        self.banned_token_ids = frozenset(padding | reserved)
        self._plain = PlainText(tokenizer)
        self._asking = self._around_the_statement()

    def reserve(self, token_ids: Sequence[int]) -> None:
        """Ban these ids too: an adapter uses them as [STOP]."""
        self.banned_token_ids |= frozenset(token_ids)

    def prompt(self, statement: str) -> list[int]:
        """The chat template over one user message, ready for the model to write.

        If the prompt template begins the model's turn, these ids do too: they are none of the sampled.
        """
        text, (before, after) = self._asked(statement), self._asking
        start, end = len(before), len(text) - len(after)  # a template may trim the statement
        return self._plain.encode(text[:start], text[start:end], text[end:])

    def reader(self, token_ids: Sequence[int] = ()) -> FencedReader:
        """A reader of one turn that has read `token_ids` already."""
        reader = FencedReader(Detokenizer(self.text), self.stop_token_ids)
        for token_id in token_ids:
            reader.feed(token_id)
        return reader

    def tool_message(self, trajectory: Trajectory, result: ExecutionResult) -> list[int]:
        """The output block; in a user turn of its own if the model had ended its turn."""
        before, after = self._user_turn(trajectory.turns[-1])
        said = for_model(result, self._limits)
        return self._plain.encode(f"{before}```output\n", said, f"\n```\n{after}")

    def final_opening(self, trajectory: Trajectory) -> list[int]:
        """Close an open block and an open thought, then begin the final answer.

        A model that had ended its turn is asked for it first.
        """
        if self._has_ended(trajectory.turns[-1]):
            before, after = self._user_turn(trajectory.turns[-1])
            opening = f"{before}{_ASK}{after}"
        else:
            opening = "" if self.text(trajectory.token_ids).endswith("\n") else "\n"
            if fence := self.reader(trajectory.turns[-1].token_ids).open_fence():
                opening += f"{fence}\n"
        if _thinks(self._written(trajectory) + opening):
            opening += "</think>\n\n"
        return self._encode(opening + _OPENING)

    def boxes(self, trajectory: Trajectory) -> list[str]:
        """Contents of the boxes in what the model wrote or was made to begin, in order."""
        contents: list[str] = []
        begun = ""  # a forced opening belongs to the model's own text, a tool's output does not
        for turn in trajectory.turns:
            own = [i for i in turn.token_ids if i not in self.stop_token_ids]
            contents += boxed(begun + self.text(own), concluding=turn.execution is None)
            begun = self.text(turn.appended_token_ids) if turn.execution is None else ""
        return contents

    def answer(self, trajectory: Trajectory, rule: AnswerConfig) -> int | None:
        """The last readable box in range, in what the model wrote or was made to begin."""
        return last_answer(self.boxes(trajectory), rule)

    def text(self, token_ids: Sequence[int]) -> str:
        """Ids as text, special tokens shown."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def _encode(self, text: str) -> list[int]:
        return self._plain.encode(text, "", "")

    def _asked(self, statement: str) -> str:
        message = {"role": "user", "content": prompts.render(self._prompt, statement=statement)}
        text: str = self._tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
        return text + prompts.beginning(self._prompt)

    def _around_the_statement(self) -> tuple[str, str]:
        statement = "STATEMENTSTANDSHERE"
        try:
            before, found, after = self._asked(statement).partition(statement)
        except KeyError as error:
            raise ConfigError(f"model.prompt: {error.args[0]}") from None
        if not found:
            raise ConfigError(
                f"model.prompt = {self._prompt!r} leaves the statement out: it is made for another"
                " dialect; use bare, tools or code"
            )
        return before, after

    def _has_ended(self, turn: Turn) -> bool:
        return bool(turn.token_ids) and turn.token_ids[-1] in self.stop_token_ids

    def _user_turn(self, turn: Turn) -> tuple[str, str]:
        """What stands around a user message after the model's turn; nothing if that is still open."""
        if not self._has_ended(turn):
            return "", ""
        around = self._turn_break
        written = (
            turn.token_ids[-1] == around.end_id
        )  # else the template's end is still to be written
        return ("" if written else around.end) + around.before, around.after

    def _written(self, trajectory: Trajectory) -> str:
        """The model's own text since it last began to write, and what it was made to begin with."""
        beginning = self._turn_break.after
        written = beginning
        for turn in trajectory.turns:
            written += self.text(turn.token_ids)
            if self._has_ended(turn):
                written = beginning
        return written


def _thinks(written: str) -> bool:
    """Whether a thought is open at the end of what a model wrote."""
    return written.rfind("<think>") > written.rfind("</think>")


@dataclass(frozen=True, slots=True)
class _TurnBreak:
    """What the chat template puts around a user message that follows the model's turn.

    `end`, and behind it `before`, stand between the two; `end_id` is the id of the token that ends the
    model's turn, None if the template ends it in plain text.
    """

    end_id: int | None
    end: str
    before: str
    after: str


def _turn_break(tokenizer: Any) -> _TurnBreak:
    said, asked = "SAIDBYTHEMODEL", "ASKEDBYTHEUSER"
    conversation = [{"role": "user", "content": "."}, {"role": "assistant", "content": said}]
    # rendered without what follows, so that a token which begins the user's turn ends none
    last: str = tokenizer.apply_chat_template(conversation, tokenize=False)
    conversation.append({"role": "user", "content": asked})
    text = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    between, _, after = text.partition(said)[2].partition(asked)
    found = _first_mark(tokenizer, last.partition(said)[2])
    if found is None or not between.lstrip().startswith(found[0]):
        return _TurnBreak(found[1] if found else None, "", between, after)
    mark, mark_id = found
    end, _, before = between.partition(mark)
    return _TurnBreak(mark_id, end + mark, before, after)


def _first_mark(tokenizer: Any, text: str) -> tuple[str, int] | None:
    """The added token that a text begins with, white space aside, and its id."""
    known = {str(token): i for i, token in tokenizer.added_tokens_decoder.items()}
    known[tokenizer.eos_token or ""] = tokenizer.eos_token_id
    text = text.lstrip()
    marks = [mark for mark in known if mark.strip() and text.startswith(mark)]
    if not marks:
        return None
    mark = max(marks, key=len)
    return mark, known[mark]
