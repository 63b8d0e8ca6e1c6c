"""The stand-in fails where Kaggle's gateway fails, and only there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import pandas
import polars
import pytest

from solver.config import AnswerConfig
from submissions import frames
from submissions.checking import file_faults
from submissions.gateway import Gateway, GatewayError, rows_of
from submissions.settings import REHEARSAL
from submissions.standin import InferenceServer
from tests.support.submissions import problems_file

IDS = ["p0", "p1", "p2"]


@contextmanager
def served(predict: Callable[..., Any]) -> Iterator[tuple[int, bytes]]:
    predict.__name__ = "predict"
    server = InferenceServer(predict)
    port = server._listen()
    try:
        yield port, server._key
    finally:
        server.close()


def run(tmp_path: Path, predict: Callable[..., Any], **changes: Any) -> Path:
    rows = rows_of(problems_file(tmp_path / "p.csv", [5, 6, 7]), **changes)
    with served(predict) as (port, key):
        return Gateway(rows, tmp_path, until=time.monotonic() + 20).run(port, key)


def frame(problem_id: Any, answer: object = 5) -> polars.DataFrame:
    return polars.DataFrame({"id": [problem_id.item(0)], "answer": [answer]})


def test_rows_come_as_series_of_one_in_another_thread(tmp_path: Path) -> None:
    seen: list[Any] = []

    def predict(*values: Any) -> polars.DataFrame:
        seen.append((threading.current_thread(), values))
        return frame(values[0])

    path = run(tmp_path, predict)
    assert file_faults(path, IDS, AnswerConfig()) == []
    assert {thread for thread, _ in seen} != {threading.main_thread()}
    assert len({thread for thread, _ in seen}) == 1
    for _, (problem_id, statement) in seen:
        assert isinstance(problem_id, polars.Series) and isinstance(statement, polars.Series)
        assert (problem_id.name, statement.name) == ("id", "problem")
        assert (len(problem_id), len(statement)) == (1, 1)


def test_answers_come_along_only_when_asked_for(tmp_path: Path) -> None:
    seen: list[int] = []

    def predict(problem_id: Any, statement: Any, answer: Any = None) -> polars.DataFrame:
        seen.append(0 if answer is None else answer.item(0))
        return frame(problem_id)

    run(tmp_path, predict)
    run(tmp_path, predict, with_answers=True)
    assert seen == [0, 0, 0, 5, 6, 7]


def test_the_statement_may_be_called_otherwise(tmp_path: Path) -> None:
    rows = rows_of(problems_file(tmp_path / "p.csv", [5]), statement="question")
    assert list(rows[0]) == ["id", "question"]


def test_pandas_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(problem_id: Any, statement: Any) -> pandas.DataFrame:
        assert isinstance(problem_id, pandas.Series)
        return frames.one_row(problem_id.iloc[0], 5)  # type: ignore[no-any-return]

    monkeypatch.setattr("submissions.wire.frame_library", lambda: pandas)
    monkeypatch.setattr("submissions.frames.frame_library", lambda: pandas)
    monkeypatch.setattr("submissions.gateway.frame_library", lambda: pandas)
    path = run(tmp_path, predict)
    monkeypatch.setattr("submissions.checking.frame_library", lambda: pandas)
    assert file_faults(path, IDS, AnswerConfig()) == []
    monkeypatch.setattr("submissions.checking.frame_library", lambda: polars)
    assert file_faults(path, IDS, AnswerConfig()) == []


def _raise(*values: Any) -> None:
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("predict", "kind", "calls"),
    [
        (_raise, "server raised exception: ValueError: boom", 1),
        (lambda *_: None, "invalid submission: predict returned none", 1),
        (lambda *_: {"id": ["p0"], "answer": [5]}, "invalid submission: predict returned dict", 1),
        (lambda i, _: polars.concat([frame(i), frame(i)]), "expected 1 row but received 2", 1),
        (lambda i, _: frame(i).clear(), "expected 1 row but received 0", 1),
        (lambda *_: object(), "server raised exception: Untransportable", 1),
        (lambda *_: 5, "invalid submission: predictions are plain, not frames", 3),
        (lambda *_: polars.Series([5]), "invalid submission: predictions are series", 3),
        (lambda i, _: frame(i).rename({"answer": i.item(0)}), "inconsistent columns", 3),
    ],
)
def test_failures_leave_no_file(
    tmp_path: Path, predict: Callable[..., Any], kind: str, calls: int
) -> None:
    called: list[int] = []

    def counted(*values: Any) -> Any:
        called.append(1)
        return predict(*values)

    with pytest.raises(GatewayError) as error:
        run(tmp_path, counted)
    assert kind in str(error.value)
    assert len(called) == calls
    assert not (tmp_path / "submission.parquet").exists()


def test_a_text_makes_a_column_of_texts_and_nothing_checks_the_range(tmp_path: Path) -> None:
    path = run(tmp_path, lambda i, _: frame(i, "5" if i.item(0) == "p1" else 5))
    assert polars.read_parquet(path).schema["answer"] == polars.String
    assert file_faults(path, IDS, AnswerConfig()) == ["answer is String, not 64-bit integers"]
    path = run(tmp_path, lambda i, _: frame(i, 100_000))
    assert file_faults(path, IDS, AnswerConfig()) == ["3 outside 0:99999: 100000, 100000, 100000"]


def test_files_are_checked_for_ids(tmp_path: Path) -> None:
    path = tmp_path / "submission.parquet"
    polars.DataFrame({"id": ["p0", "p0", "q"], "answer": [1, 2, 3]}).write_parquet(path)
    assert file_faults(path, IDS, AnswerConfig()) == [
        "2 missing: 'p1', 'p2'",
        "1 unknown: 'q'",
        "1 repeated: 'p0'",
    ]
    polars.DataFrame({"answer": [1], "id": ["p0"]}).write_parquet(path)
    assert "columns are ['answer', 'id']" in file_faults(path, IDS, AnswerConfig())[0]
    path.write_bytes(b"id,answer\n")
    assert "cannot be read" in file_faults(path, IDS, AnswerConfig())[0]
    assert file_faults(None, IDS, AnswerConfig()) == ["there is no submission file"]


def test_a_server_that_hangs_ends_at_the_limit(tmp_path: Path) -> None:
    release = threading.Event()
    rows = rows_of(problems_file(tmp_path / "p.csv", [5]))
    with served(lambda *_: release.wait(30)) as (port, key):
        with pytest.raises(GatewayError, match="deadline exceeded: no answer to 'p0'"):
            Gateway(rows, tmp_path, until=time.monotonic() + 0.3).run(port, key)
        release.set()


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gateway = Gateway([{"id": "p0"}], tmp_path, startup_s=0.2)
        with pytest.raises(GatewayError, match="server never started: no connection after"):
            gateway.run(taken.getsockname()[1], b"key")


def test_a_stale_server_is_not_taken_for_ours(tmp_path: Path) -> None:
    stale = served(lambda i, _: frame(i))
    with stale as (port, _), pytest.raises(GatewayError, match="another server listens"):
        Gateway([{"id": "p0"}], tmp_path).run(port, b"another key")


def test_a_port_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REHEARSAL, raising=False)
    with Listener(("127.0.0.1", 0)) as listener:
        server = InferenceServer()
        server._port = listener.address[1]
        with pytest.raises(OSError, match="in use"):
            server.serve()


def test_a_notebook_can_be_its_own_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = problems_file(tmp_path / "p.csv", [5, 6, 7])

    def predict(problem_id: Any, statement: Any) -> Any:
        return frames.one_row(*frames.problem_of((problem_id, 0))[:1], 5)

    InferenceServer(predict).run_local_gateway((str(file),))
    assert file_faults(tmp_path / "submission.parquet", IDS, AnswerConfig()) == []
    with pytest.raises(ValueError, match="give the file"):
        InferenceServer(predict).run_local_gateway()
