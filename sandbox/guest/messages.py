"""The kernel's messages: only what is heard, in pieces no larger than are read."""

import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ipykernel.iostream import IOPubThread
from jupyter_client.session import Session

from sandbox.guest.meter import Meter

HEARD = ("error", "status", "execute_reply", "kernel_info_reply")
TEXTS = 8  # a text is sent in pieces of this part of all that is accepted
MOST_ITEMS = 16  # of a list in a message


class Pub(IOPubThread):
    """The output thread, without the TCP port by which forked processes would print."""

    def _setup_pipe_in(self) -> None:
        pass

    def _really_send(self, *arguments: Any, **options: Any) -> None:
        if os.getpid() == self._master_pid:
            super()._really_send(*arguments, **options)  # type: ignore[no-untyped-call]


class BoundedSession(Session):
    """Sends only what is heard, in messages no larger than are read."""

    def __init__(self, meter: Meter, **options: Any) -> None:
        super().__init__(**options)
        self.meter = meter
        self.most_text = meter.most // TEXTS + 1000

    def send(
        self,
        stream: Any,
        msg_or_type: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Any = None,
        metadata: Any = None,
    ) -> Any:
        """As the original, but without the parts of a message that nobody reads, or not at all."""
        message = msg_or_type
        if not isinstance(message, dict):
            message = self.msg(message, content, parent, header, metadata)
        for heard in self._heard(message["header"]["msg_type"], message["content"]):
            part = dict(message, content=heard, metadata={}, buffers=[])
            super().send(stream, part, ident=ident)
        return message

    def _heard(self, kind: str, content: Any) -> Iterator[dict[str, Any]]:
        """What to send for this content: texts within the meter's bounds, in pieces."""
        if kind == "stream":
            written = text_of(content, "text")
            for start in range(0, len(written), self.most_text):
                text = clean(written[start : start + self.most_text], sys.maxsize)
                if self.meter.may_send(text, shown=False):
                    yield {"name": content.get("name"), "text": text}
        elif kind in ("execute_result", "display_data"):
            text = clean(text_of(content.get("data"), "text/plain"), self.most_text)
            if text and self.meter.may_send(text, shown=True):
                yield {"data": {"text/plain": text}}
        elif kind in HEARD:
            yield clean(content, self.most_text // TEXTS)


def clean(value: Any, most: int) -> Any:
    """`value` with its texts no longer than `most`, valid UTF-8, and no more than some of its items."""
    if isinstance(value, str):
        if len(value) > most:
            value = value[: most // 2] + "\n[...]\n" + value[-(most // 2) :]
        try:
            value.encode()
        except UnicodeEncodeError:
            value = value.encode("utf-8", "backslashreplace").decode()
        return value
    if isinstance(value, dict):
        return {key: clean(item, most) for key, item in islice(value.items(), MOST_ITEMS)}
    if isinstance(value, list):
        return [clean(item, most) for item in value[:MOST_ITEMS]]
    return value


def text_of(content: Any, name: str) -> str:
    """What `content` has under this name, if that is a text."""
    text = content.get(name) if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""
