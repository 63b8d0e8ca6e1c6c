"""Messages of the harmony format, read id by id from what a model sampled.

    <|start|>assistant<|channel|>analysis<|message|>...<|end|>
    <|start|>assistant<|channel|>analysis to=python code<|message|>...<|call|>
    <|start|>assistant<|channel|>final<|message|>...<|return|>

On well-formed ids it agrees with the library's parser (a test holds the two together). That one
raises at a header it cannot read and is of no use afterwards; this one goes on with the next message,
and takes what was written without a header, or in one that never reached `<|message|>`, as a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

ASSISTANT = "assistant"
PYTHON = "python"
THINKING_CHANNELS = ("analysis", "commentary")  # where tools are called; `final` is for the user
_TO = "to="
_USER = "user"
_ROLES = frozenset({ASSISTANT, PYTHON, _USER, "system", "developer", "tool"})


@dataclass(frozen=True, slots=True)
class Marks:
    """Ids of the format's own tokens, and of the role that a turn's first header begins with."""

    start: int
    end: int
    message: int
    channel: int
    constrain: int
    returned: int
    call: int
    assistant: tuple[int, ...]

    @property
    def special(self) -> frozenset[int]:
        """The format's own tokens."""
        return frozenset({self.start, self.message, self.channel, self.constrain, *self.closing})

    @property
    def closing(self) -> tuple[int, int, int]:
        """What ends a message."""
        return self.end, self.returned, self.call


@dataclass(frozen=True, slots=True)
class Header:
    """Who speaks, on which channel, to whom; empty is "not said".

    `readable` is False if there is more than one channel or recipient: then nothing in it is relied on.
    """

    role: str
    channel: str
    recipient: str
    readable: bool

    @property
    def own(self) -> bool:
        """Whether the message is the model's own text, addressed to no tool."""
        return self.role == ASSISTANT and self.recipient in ("", _USER)

    @property
    def calls(self) -> bool:
        """Whether the model addresses a tool, whichever."""
        return self.role == ASSISTANT and not self.own

    @property
    def final(self) -> bool:
        """Whether the message is for the user."""
        return self.own and self.readable and self.channel == "final"

    @property
    def calls_python(self) -> bool:
        """Whether a complete message is code to run."""
        rightly = self.readable and self.role == ASSISTANT and self.channel in THINKING_CHANNELS
        return rightly and self.recipient == PYTHON


@dataclass(slots=True)
class Message:
    """A message whose header is complete, and the ids of its content so far."""

    header: Header
    token_ids: list[int] = field(default_factory=list)


class Messages:
    """Follows headers and contents; begins behind `<|start|>assistant`, where every turn begins.

    `read` are all messages, the open one included; `open` is the message being written; `header` are
    the ids of the header being written. Both are None between two messages. `closed` is the message that
    the last id closed.
    """

    def __init__(self, marks: Marks, text: Callable[[Sequence[int]], str]) -> None:
        self._marks = marks
        self._text = text
        self.read: list[Message] = []
        self.open: Message | None = None
        self.closed: Message | None = None
        self.header: list[int] | None = list(marks.assistant)

    def feed(self, token_id: int) -> None:
        """Read the next id, whatever it is."""
        self.closed = None
        if token_id == self._marks.start:  # also where it may not stand: there a message was left
            self._close()
            self.header = []
        elif token_id in self._marks.closing:
            self._close()
        elif self.open is not None:
            self.open.token_ids.append(token_id)
        else:
            if self.header is None:  # a header without its beginning can only be the assistant's
                self.header = list(self._marks.assistant)
            if token_id == self._marks.message:
                self.open, self.header = Message(self._parsed(self.header)), None
                self.read.append(self.open)
            else:
                self.header.append(token_id)

    def _close(self) -> None:
        self.closed = self.open
        if self.open is None and (message := self._without_header(self.header or [])) is not None:
            self.closed = message
            self.read.append(message)
        self.open = self.header = None

    def _without_header(self, ids: list[int]) -> Message | None:
        """What the model said where a header stands that never came to its end, or None."""
        assistant = list(self._marks.assistant)
        begun = ids[: len(assistant)] == assistant
        said, *channels = _split(ids[len(assistant) :] if begun else ids, self._marks.channel)
        words = self._words(said)
        if not begun and _first_word(words) in _ROLES:  # somebody else speaks
            return None
        header = self._parsed(ids if channels else assistant)
        if channels:
            words = self._words(channels[-1])[1:]
        elif words and words[0].startswith(_TO):
            return None
        if not words:
            return None
        return Message(header, channels[-1] if channels else said) if header.own else None

    def _parsed(self, ids: Sequence[int]) -> Header:
        """`role [to=name] [type]`, then a channel mark and `channel [to=name] [type]`."""
        sections = [self._words(section) for section in _split(ids, self._marks.channel)]
        words = [word for section in sections for word in section]
        recipients = [word for word in words if word.startswith(_TO)]
        role, channel = _first_word(sections[0]), "".join(map(_first_word, sections[1:2]))
        readable = len(sections) <= 2 and len(recipients) <= 1
        recipient = " ".join(recipients).removeprefix(_TO)
        return Header(role, channel, recipient, readable)

    def _words(self, ids: Sequence[int]) -> list[str]:
        # What follows <|constrain|> is the type of the content, a word of its own.
        runs = _split(ids, self._marks.constrain)
        return " ".join(self._text(run) for run in runs).split()


def _split(ids: Sequence[int], separator: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token_id in ids:
        if token_id == separator:
            parts.append([])
        else:
            parts[-1].append(token_id)
    return parts


def _first_word(words: Sequence[str]) -> str:
    return words[0] if words and not words[0].startswith(_TO) else ""
