"""One worker process and its pipes. No call here waits for the worker."""

from __future__ import annotations

import contextlib
import queue
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from submissions.guard import end_tree, guarded
from submissions.protocol import MAX_LINE, MESSAGES, Message, Task
from submissions.runfolder import KEPT_FREE

_LAST_LINES, _LONGEST_LINE, _LONGEST_WORDS = 40, 16_000, 300


class Child:
    """A worker process and its guard; `receive` gets its messages, `ended` is called once at their end.

    Both are called from a thread of this child's. What it writes to stderr goes to `log`, as far as the disk
    has room; the last lines are kept.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        receive: Callable[[Child, Message], None],
        ended: Callable[[Child], None],
    ) -> None:
        self._process = subprocess.Popen(
            guarded(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # not the file itself: on a full disk a complaint would fail as well
            start_new_session=True,  # so that Ctrl-C reaches the notebook only
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        assert self._process.stderr is not None
        self._last_lines: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._write, args=(self._process.stdin,), daemon=True),
            threading.Thread(
                target=self._read, args=(self._process.stdout, receive, ended), daemon=True
            ),
            threading.Thread(target=self._log, args=(self._process.stderr, log), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, task: Task) -> None:
        """Send a task; returns at once, though the worker may never read it."""
        self._outbox.put(task.line())

    def end(self) -> list[str]:
        """Kill the worker and everything below it; returns what could not be killed."""
        left = end_tree(self._process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._outbox.put(None)
        for thread in self._threads:
            thread.join(timeout=5)
        return left

    @property
    def last_words(self) -> str:
        """The last line that it wrote to stderr, after a crash its exception; empty if there is none."""
        lines = [line.decode(errors="replace").strip() for line in list(self._last_lines)]
        return next((line for line in reversed(lines) if line), "")[:_LONGEST_WORDS]

    def _log(self, pipe: IO[bytes], path: Path) -> None:
        with contextlib.suppress(OSError, ValueError), pipe:
            while line := pipe.readline(_LONGEST_LINE):
                self._last_lines.append(line)
                with contextlib.suppress(OSError):  # a full disk costs the log and nothing else
                    if shutil.disk_usage(path.parent).free > KEPT_FREE:
                        with path.open("ab") as file:
                            file.write(line)

    def _write(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError):  # the worker has ended, which its reader reports
            while (line := self._outbox.get()) is not None:
                pipe.write(line)
                pipe.flush()
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(
        self,
        pipe: IO[bytes],
        receive: Callable[[Child, Message], None],
        ended: Callable[[Child], None],
    ) -> None:
        with contextlib.suppress(OSError, ValueError), pipe:
            while line := pipe.readline(MAX_LINE):
                try:
                    message = MESSAGES.validate_json(line)
                except ValueError:  # no message, or no valid one: ignored
                    continue
                receive(self, message)
        ended(self)
