"""A stand-in for Kaggle's gateway with the same rows and the same failures, written by us.

It sends one row at a time to another process, and writes `submission.parquet` after the last one. The
file's answers are sent only on request; Kaggle's gateway sends them for a file that has them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from solver.errors import RunError
from solver.files.problems import load_problems
from submissions.frames import frame_library
from submissions.wire import row_message

SUBMISSION = "submission.parquet"
STARTUP_S = 900.0  # from the start to the first connection
_RETRY_S = 0.05

Row = dict[str, object]  # column -> value, in the order of predict's arguments


class GatewayError(RunError):
    """The run has no submission file; `kind` is the name of Kaggle's own error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


NEVER_STARTED = "server never started"
CONNECTION_FAILED = "server connection failed"
RAISED = "server raised exception"
INVALID = "invalid submission"
DEADLINE = "deadline exceeded"
NOT_WRITTEN = "the file cannot be written"


def rows_of(
    file: Path,
    *,
    statement: str = "problem",
    with_answers: bool = False,
    shuffle: int | None = None,
) -> list[Row]:
    """Rows of a problems file, in its order or shuffled by a seed; answers only where asked for."""
    problems = load_problems(file)
    rows: list[Row] = [{"id": p.id, statement: p.statement} for p in problems]
    if with_answers:
        for row, problem in zip(rows, problems, strict=True):
            row["answer"] = problem.answer
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    return rows


@dataclass(slots=True)
class Gateway:
    """Sends `rows` to the submission and writes its answers into `folder`.

    `until` (monotonic seconds) ends everything; `alive` tells whether the server's process still runs.
    `on_reply` is told the number of replies after each.
    """

    rows: Sequence[Row]
    folder: Path
    until: float = float("inf")
    startup_s: float = STARTUP_S
    alive: Callable[[], bool] = lambda: True
    on_reply: Callable[[int], None] = lambda _: None
    replies: list[dict[str, Any]] = field(default_factory=list)

    def run(self, port: int, key: bytes) -> Path:
        """The submission file, or `GatewayError` and no file."""
        with self._connect(port, key) as connection:
            for row in self.rows:
                reply = self._predict(connection, row)
                _check_row(reply)
                self.replies.append(reply)
                self.on_reply(len(self.replies))
        return self._write()

    def _connect(self, port: int, key: bytes) -> Connection:
        give_up_at = min(self.until, time.monotonic() + self.startup_s)
        while time.monotonic() < give_up_at:
            try:
                return Client(("127.0.0.1", port), authkey=key)
            except AuthenticationError:
                raise GatewayError(
                    CONNECTION_FAILED, f"another server listens on port {port}: end it"
                ) from None
            except (OSError, EOFError):
                if not self.alive():
                    raise GatewayError(NEVER_STARTED, "the process ended") from None
                time.sleep(_RETRY_S)
        raise GatewayError(NEVER_STARTED, f"no connection after {self.startup_s:.0f} s")

    def _predict(self, connection: Connection, row: Row) -> dict[str, Any]:
        try:
            connection.send_bytes(row_message(row))
            while not connection.poll(max(0.0, min(1.0, self.until - time.monotonic()))):
                if time.monotonic() >= self.until:
                    raise GatewayError(DEADLINE, f"no answer to {row['id']!r:.60}")
            reply: dict[str, Any] = json.loads(connection.recv_bytes())
        except (OSError, EOFError):
            raise GatewayError(CONNECTION_FAILED, "the server's process ended") from None
        if reply["kind"] == "error":
            raise GatewayError(RAISED, reply["what"])
        return reply

    def _write(self) -> Path:
        kinds = {reply["kind"] for reply in self.replies}
        if kinds != {"frame"}:
            raise GatewayError(INVALID, f"predictions are {', '.join(sorted(kinds))}, not frames")
        columns: dict[str, list[Any]] = {name: [] for name in self.replies[0]["columns"]}
        for reply in self.replies:
            if list(reply["columns"]) != list(columns):
                raise GatewayError(INVALID, "inconsistent columns")
            for name, values in reply["columns"].items():
                columns[name] += values
        path = self.folder / SUBMISSION
        try:
            _write_parquet({name: _of_one_type(values) for name, values in columns.items()}, path)
        except Exception as error:  # libraries of frames have errors of their own for a full disk
            raise GatewayError(NOT_WRITTEN, str(error)) from None
        return path


def _check_row(reply: dict[str, Any]) -> None:
    """Raise for a row that Kaggle's gateway refuses at once; other faults are found in `_write`."""
    kind = reply["kind"]
    if kind in ("none", "dict"):
        raise GatewayError(INVALID, f"predict returned {kind}")
    sizes = {"frame": lambda: _height(reply), "series": lambda: len(reply["values"])}
    height = sizes[kind]() if kind in sizes else 1
    if height != 1:
        raise GatewayError(INVALID, f"expected 1 row but received {height}")


def _height(reply: dict[str, Any]) -> int:
    return max((len(values) for values in reply["columns"].values()), default=0)


def _of_one_type(values: list[Any]) -> list[Any]:
    """All values as text if one of them is text, as in Kaggle's gateway, which does not report it."""
    if any(isinstance(value, str) for value in values):
        return [None if value is None else str(value) for value in values]
    return values


def _write_parquet(columns: dict[str, list[Any]], path: Path) -> None:
    frame = frame_library().DataFrame(columns)
    if hasattr(frame, "write_parquet"):
        frame.write_parquet(path)
    else:
        frame.to_parquet(path, index=False)
