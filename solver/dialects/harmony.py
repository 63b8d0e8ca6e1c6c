"""The harmony dialect of gpt-oss: channels, a stateful python tool, and a final message.

What the model samples is kept as it is; only prompts, tool messages and forced openings are written
here. A turn is all that is sampled up to `<|call|>` or `<|return|>`: thoughts that end with `<|end|>`
are followed by the next message of the same turn. Whatever a header says, nothing raises: only code
sent to `python` is run, every other call is answered with words, and the attempt goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from jinja2 import UndefinedError

import prompts
from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus, for_model
from solver.config import AnswerConfig, HarmonyConfig
from solver.dialects.harmony_messages import (
    ASSISTANT,
    PYTHON,
    THINKING_CHANNELS,
    Marks,
    Messages,
)
from solver.dialects.harmony_reader import HarmonyReader
from solver.dialects.harmony_vocabulary import load_encoding
from solver.errors import ConfigError
from solver.policy.answer import last_answer
from solver.policy.boxes import boxed
from solver.types import Trajectory

VOCAB_SIZE = 201_088  # rows of the output layer of gpt-oss-20b and gpt-oss-120b
_FIRST_SPECIAL = 199_998  # from here on there is no text: marks of the format, padding, reserved
_CONCLUSION = "The answer is \\boxed{"
_TOO_LATE = ExecutionResult(
    status=ExecutionStatus.REFUSED, stderr="no more calls; give the final answer now"
)


class HarmonyDialect:
    """Binds the format to the library's encoding; `open` finds its vocabulary on this machine.

    `limits` are those of the run's kernels: the model is told no others.
    """

    def __init__(
        self, encoding: Any, config: HarmonyConfig, instructions: str, limits: Limits
    ) -> None:
        self._encoding = encoding
        self._instructions = instructions
        self._limits = limits
        self._effort = config.reasoning_effort
        self._tool_description = config.tool_description or prompts.render("python_tool")
        self._marks = _marks(encoding)
        # The library's order of them differs between processes.
        self.stop_token_ids = frozenset(encoding.stop_tokens_for_assistant_actions())
        self.banned_token_ids = frozenset(range(_FIRST_SPECIAL, VOCAB_SIZE)) - self._marks.special

    @classmethod
    def open(
        cls, config: HarmonyConfig, prompt: str, limits: Limits, search: Sequence[Path] = ()
    ) -> Self:
        """The dialect with template `prompt` as its instructions.

        `search` are further folders where the vocabulary may lie, such as the model's. Raises
        `ConfigError` without the library, the vocabulary or the template.
        """
        try:
            instructions = prompts.render(prompt)
        except KeyError as error:
            raise ConfigError(f"model.prompt: {error.args[0]}") from None
        except UndefinedError:
            raise ConfigError(
                f"model.prompt = {prompt!r} has the statement inside; harmony's instructions stand"
                " apart from it: use --set model.prompt=harmony"
            ) from None
        return cls(load_encoding(config.vocabulary, search), config, instructions, limits)

    def reserve(self, token_ids: Sequence[int]) -> None:
        """Ban these ids too: an adapter uses them as [STOP]."""
        self.banned_token_ids |= frozenset(token_ids)

    def prompt(self, statement: str) -> list[int]:
        """System, developer and user message, and `<|start|>assistant`.

        No date is in it, so that a run does not depend on its day. Marks of the format that a
        statement spells out are text.
        """
        import openai_harmony as harmony

        system = harmony.SystemContent.new().with_tools(
            harmony.ToolNamespaceConfig(
                name=PYTHON, description=_encodable(self._tool_description), tools=[]
            )
        )
        system.reasoning_effort = harmony.ReasoningEffort(self._effort.capitalize())
        developer = harmony.DeveloperContent.new().with_instructions(self._instructions)
        conversation = harmony.Conversation.from_messages(
            harmony.Message.from_role_and_content(role, content)
            for role, content in (
                (harmony.Role.SYSTEM, system),
                (harmony.Role.DEVELOPER, developer),
                (harmony.Role.USER, _encodable(statement)),
            )
        )
        rendered = self._encoding.render_conversation_for_completion(
            conversation, harmony.Role.ASSISTANT
        )
        return list(rendered)

    def reader(self, token_ids: Sequence[int] = ()) -> HarmonyReader:
        """A reader of one turn that has read `token_ids` already."""
        reader = HarmonyReader(self._marks, self.text)
        for token_id in token_ids:
            reader.feed(token_id)
        return reader

    def tool_message(self, trajectory: Trajectory, result: ExecutionResult) -> list[int]:
        """What python says, on the channel of the call, and the beginning of the next message.

        Written here: the forks of the library put the recipient at different places.
        """
        read = self.reader(trajectory.turns[-1].token_ids).messages.read
        channel = read[-1].header.channel if read else ""
        if channel not in THINKING_CHANNELS:
            channel = "commentary"
        header = [self._marks.start, *self._encode(f"{PYTHON} to={ASSISTANT}")]
        header += [self._marks.channel, *self._encode(channel), self._marks.message]
        output = self._encode(for_model(result, self._limits))
        return [*header, *output, self._marks.end, self._marks.start, *self._marks.assistant]

    def final_opening(self, trajectory: Trajectory) -> list[int]:
        """Close whatever is open in a well-formed way, then begin a message to the user."""
        final = [self._marks.channel, *self._encode("final"), self._marks.message]
        return [*self._next_header(trajectory), *final, *self._encode(_CONCLUSION)]

    def _next_header(self, trajectory: Trajectory) -> list[int]:
        """Ids that lead from where the trajectory stands to right behind `<|start|>assistant`."""
        marks, reader = self._marks, self.reader(trajectory.turns[-1].token_ids)
        message, header = reader.messages.open, reader.messages.header
        begin = [marks.start, *marks.assistant]
        if reader.call is not None:
            return self.tool_message(trajectory, _TOO_LATE)
        if message is not None and message.header.calls:
            return [marks.call, *self.tool_message(trajectory, _TOO_LATE)]
        if message is not None:
            return [marks.end, *begin]
        if header is None:
            return begin
        if not header:
            return list(marks.assistant)
        if header == list(marks.assistant):
            return []
        channel = self._encode(THINKING_CHANNELS[0]) if header[-1] == marks.channel else []
        return [*channel, marks.message, marks.end, *begin]

    def boxes(self, trajectory: Trajectory) -> list[str]:
        """Contents of the boxes in the model's thoughts, then in what it told the user."""
        messages = Messages(self._marks, self.text)
        for token_id in trajectory.token_ids[len(trajectory.prompt_token_ids) :]:
            messages.feed(token_id)
        # What was forced is the model's own, what a tool said bears the tool's name.
        own = [message for message in messages.read if message.header.own]
        said = [message for message in own if message.header.final]
        thought = [message for message in own if not message.header.final]
        return [
            content
            for message in (*thought, *said)
            for content in boxed(self.text(message.token_ids), concluding=message.header.final)
        ]

    def answer(self, trajectory: Trajectory, rule: AnswerConfig) -> int | None:
        """The last readable box to the user, else in the model's thoughts; never code or output."""
        return last_answer(self.boxes(trajectory), rule)

    def text(self, token_ids: Sequence[int]) -> str:
        """Ids as text, special tokens shown; ids beyond the vocabulary have none."""
        known = [token_id for token_id in token_ids if 0 <= token_id < VOCAB_SIZE]
        text: str = self._encoding.decode(known)
        return text

    def _encode(self, text: str) -> list[int]:
        """Ids of plain text: a mark of the format that it spells out is not one."""
        return list(self._encoding.encode(text, disallowed_special=()))


def _marks(encoding: Any) -> Marks:
    def one(name: str) -> int:
        (token_id,) = encoding.encode(f"<|{name}|>", allowed_special="all")
        return int(token_id)

    return Marks(
        start=one("start"),
        end=one("end"),
        message=one("message"),
        channel=one("channel"),
        constrain=one("constrain"),
        returned=one("return"),
        call=one("call"),
        assistant=tuple(encoding.encode(ASSISTANT)),
    )


def _encodable(text: str) -> str:
    """`text` with half characters (lone surrogates) replaced: UTF-8 cannot encode them."""
    return text.encode("utf-8", "replace").decode()
