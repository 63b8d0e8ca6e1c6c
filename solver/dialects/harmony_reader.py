"""One turn of gpt-oss, id by id: when it calls python, when it calls what does not exist, when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from solver.dialects.harmony_messages import PYTHON, Header, Marks, Messages

_FENCES = ("```", "```py", "```python")


class HarmonyReader:
    """Follows the messages of one turn; see `solver.dialects.base.TurnReader`."""

    def __init__(self, marks: Marks, text: Callable[[Sequence[int]], str]) -> None:
        self._marks = marks
        self._text = text
        self.messages = Messages(marks, text)
        self.call: str | None = None
        self.refusal: str | None = None
        self.ended = False

    def feed(self, token_id: int) -> None:
        """Read the next sampled id; everything after a complete call or the end is ignored."""
        if self.call is not None or self.ended:
            return
        self.messages.feed(token_id)
        if token_id not in self._marks.closing:
            return
        message = self.messages.closed
        header = message.header if message is not None else None
        calls = token_id == self._marks.call or (header is not None and header.calls)
        if (header is not None and header.final) or (
            token_id == self._marks.returned and not calls
        ):
            self.ended = True
        elif calls:  # whatever the call is closed with
            self.call = _unfenced(self._text(message.token_ids)) if message is not None else ""
            self.refusal = _refusal(header)


def _refusal(header: Header | None) -> str | None:
    """Why a call with this header is not run, in words for the model; None: it is code for python."""
    if header is not None and header.calls_python:
        return None
    if header is None or not header.readable or header.recipient in ("", PYTHON):
        what = "the header of this call cannot be read"
    else:
        what = f"there is no tool {header.recipient[:60]!r}"
    return f"{what}; the only tool is {PYTHON}, called with to={PYTHON} on the analysis channel"


def _unfenced(code: str) -> str:
    """`code` without the Markdown fence that the model sometimes puts around it."""
    first, *rest = code.strip().split("\n")
    if rest and first.rstrip() in _FENCES and rest[-1].strip() == _FENCES[0]:
        return "\n".join(rest[:-1])
    return code
