"""`predict` answers whatever it is passed, whoever calls it, and shares the time there is."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import pandas
import polars
import pytest

from solver.config import SolverConfig
from solver.journal.events import Solved
from solver.policy.pace import Steps, Taken
from submissions.outcome import Outcome
from submissions.predict import Answerer
from submissions.protocol import Task
from submissions.rowlog import Answered, Asked, Loaded, RowLog, read_rows


def solved(problem_id: str, answer: int, votes: int = 1) -> Solved:
    return Solved(
        problem_id=problem_id, answer=answer, votes={answer: votes}, num_votes=votes, margin=votes,
        tied=False, decided_early=False, elapsed_s=0.0, sampled_tokens=0, reused_tokens=0,
        encoded_tokens=0, degraded=[],
    )  # fmt: skip


class Oracle:
    """A supervisor that answers with the number in the statement; or does what a test says."""

    lost_s = 0.0

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.waited: list[float] = []
        self.outcome: Outcome | Exception | None = None

    def wait_ready(self, until: float) -> bool:
        self.waited.append(until - time.monotonic())
        return True

    def solve(self, task: Task, until: float) -> Outcome:
        self.tasks.append(task)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is not None:
            return self.outcome
        return Outcome(solved=solved(task.problem_id, int(task.statement or 0)))


def answerer(
    tmp_path: Path, num_problems: int = 4, limit_s: float = 100.0, row_limit_s: float = math.inf,
    **answer: object,
) -> tuple[Answerer, Oracle]:  # fmt: skip
    # Whatever a preset for files says of problems at once, rows come one after another.
    budget = {"time_limit_s": limit_s, "closing_s": 0.0, "problems_at_once": 4}
    config = SolverConfig.model_validate({"budget": budget, "answer": answer})
    oracle, now = Oracle(), time.monotonic()
    log = RowLog([tmp_path / "submission.jsonl"], now)
    subject = Answerer(config, now, num_problems, oracle, log, row_limit_s=row_limit_s)  # type: ignore[arg-type]
    return subject, oracle


@pytest.mark.parametrize(
    "values",
    [
        ("a", "17"),
        ("a", 17),
        (polars.Series("id", ["a"]), polars.Series("problem", ["17"])),
        (polars.Series("x", ["a"]), polars.Series("y", [17])),
        (polars.DataFrame({"id": ["a"]}), polars.DataFrame({"question": ["17"]})),
        (pandas.Series(["a"], name="id"), pandas.Series(["17"], index=[9])),
        (pandas.DataFrame({"id": ["a"]}), pandas.DataFrame({"question": ["17"]})),
        (["a"], ("17",)),
        ("a", "17", polars.Series("answer", [987_654_321])),
    ],
)
def test_whatever_the_gateway_passes(tmp_path: Path, values: tuple[Any, ...]) -> None:
    subject, oracle = answerer(tmp_path)
    row = subject.predict()(*values)
    assert isinstance(row, polars.DataFrame)
    assert row.schema == {"id": polars.String, "answer": polars.Int64}
    assert row.rows() == [("a", 17)]
    assert oracle.tasks[0].statement == "17"
    assert "987654321" not in (tmp_path / "submission.jsonl").read_text()


def test_named_arguments_are_as_good(tmp_path: Path) -> None:
    subject, _ = answerer(tmp_path)
    assert subject.predict()(id_="a", problem="17").rows() == [("a", 17)]
    assert subject.predict().__name__ == "predict"


@pytest.mark.parametrize(
    ("values", "row_id"),
    [
        ((), ""),
        (("a",), ""),
        ((None, None), ""),
        (("a", None), "a"),
        ((polars.Series("id", ["a"]), polars.Series("problem", [None])), "a"),
        ((pandas.Series(["a"]), pandas.Series([float("nan")])), "a"),
        ((polars.Series("id", [], dtype=polars.String), polars.Series("problem", ["1"])), ""),
        ((10**30, "\ud800"), str(10**30)),
        ((object(), "17"), None),
    ],
)
def test_what_cannot_be_read_is_a_row_too(
    tmp_path: Path, values: tuple[Any, ...], row_id: str | None
) -> None:
    subject, oracle = answerer(tmp_path)
    oracle.outcome = Outcome()
    row = subject.predict()(*values)
    assert row.shape == (1, 2)
    assert row["answer"].to_list() == [0]
    assert row_id is None or row["id"].to_list() == [row_id]


@pytest.mark.parametrize(
    ("outcome", "answer", "how"),
    [
        (Outcome(solved=solved("a", 7)), 7, "solved"),
        (Outcome(solved=solved("a", 7, votes=0)), 7, "fallback"),
        (Outcome(best=8, notes=["time is up"]), 8, "best vote"),
        (Outcome(notes=["time is up"]), 3, "fallback"),
        (Outcome(solved=solved("a", 1000)), 3, "solved"),
        (Outcome(best=-1), 3, "best vote"),
        (RuntimeError("boom"), 3, "fallback"),
        (MemoryError(), 3, "fallback"),
    ],
)
def test_an_integer_in_range_whatever_happens(
    tmp_path: Path, outcome: Outcome | Exception, answer: int, how: str
) -> None:
    subject, oracle = answerer(tmp_path, minimum=0, maximum=999, fallback=3)
    oracle.outcome = outcome
    assert subject.answer("a", "17") == answer
    (row,) = (e for e in read_rows(tmp_path / "submission.jsonl") if isinstance(e, Answered))
    assert (row.answer, row.how) == (answer, how)


def test_time_is_shared_and_handed_on(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path, num_problems=4, limit_s=100.0)
    for name in "abcd":
        subject.answer(name, "1")
    asked = [e for e in read_rows(tmp_path / "submission.jsonl") if isinstance(e, Asked)]
    # Nobody took any time, so all of it is left for fewer and fewer.
    assert [round(e.share_s) for e in asked] == [25, 33, 50, 100]
    assert [round(e.allotted_s) for e in asked] == [62, 67, 75, 100]
    left = [task.deadline - task.allotted_s for task in oracle.tasks]
    assert max(left) - min(left) < 2.0, "each deadline is the allotted time from its own beginning"
    for task, entry in zip(oracle.tasks, asked, strict=True):
        assert task.allotted_s == pytest.approx(entry.allotted_s - 1.0, abs=0.01)
        assert task.reserve_s == pytest.approx(min(10.0, 0.15 * entry.allotted_s), abs=0.01)


def test_no_row_but_the_first_passes_the_gateways_limit(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path, num_problems=3, limit_s=9000.0, row_limit_s=1800.0)
    for name in "abc":
        subject.answer(name, "1")
    first, *later = oracle.tasks
    assert first.allotted_s > 5000, "it may load the model"
    assert all(1600 < task.allotted_s <= 0.95 * 1800 for task in later)
    assert oracle.waited[0] > 4000 and max(oracle.waited[1:]) <= 0.5 * 0.95 * 1800


def test_where_time_is_short_fewer_trajectories_are_asked_for(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path, num_problems=10, limit_s=100.0)
    # 200 tokens: 24 and 8 trajectories take 28 s, one takes 4 s, and an even share is 10 s.
    took = Taken(Steps.of(320, 24, 320 * 0.5) + Steps.of(320, 1, 320 * 0.02), (200,))
    oracle.outcome = Outcome(solved=solved("a", 7).model_copy(update={"taken": took}))
    for name in "ab":
        subject.answer(name, "1")
    assert (oracle.tasks[0].launch, oracle.tasks[0].budget.keep, oracle.tasks[0].why) == (24, 8, "")
    second = oracle.tasks[1]
    assert second.launch is not None and second.budget.keep is not None
    assert 24 > second.launch > second.budget.keep >= 1
    assert second.why.startswith("time was short: ")
    assert second.budget.launch == second.launch
    asked = [e for e in read_rows(tmp_path / "submission.jsonl") if isinstance(e, Asked)]
    assert [(e.launch, e.keep) for e in asked] == [(t.launch, t.budget.keep) for t in oracle.tasks]


def test_where_no_time_is_left_for_an_answer_the_row_says_so(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path, num_problems=10, limit_s=100.0)
    took = Taken(Steps.of(320, 1, 320 * 2.0), (200,))
    oracle.outcome = Outcome(solved=solved("a", 7).model_copy(update={"taken": took}))
    for name in "ab":
        subject.answer(name, "1")
    assert len(oracle.tasks) == 1
    *_, row = (e for e in read_rows(tmp_path / "submission.jsonl") if isinstance(e, Answered))
    assert (row.answer, row.how) == (0, "fallback")
    assert row.degraded[0].startswith("no time: an answer takes ")


def test_more_rows_than_expected_get_what_is_left(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path, num_problems=1)
    assert [subject.answer(name, "5") for name in "abc"] == [5, 5, 5]
    assert len(oracle.tasks) == 3


def test_after_the_limit_nothing_is_begun(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path, limit_s=0.001)
    time.sleep(0.01)
    assert subject.answer("a", "5") == 0
    assert oracle.tasks == []


def test_a_row_asked_again_has_its_answer(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path)
    assert [subject.answer("a", "5"), subject.answer("a", "6")] == [5, 5]
    assert len(oracle.tasks) == 1


def test_loading_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    subject, oracle = answerer(tmp_path, limit_s=100.0)
    subject.answer("a", "5")
    assert 45 < oracle.waited[0] <= 50
    loaded = [e for e in read_rows(tmp_path / "submission.jsonl") if isinstance(e, Loaded)]
    assert [entry.ready for entry in loaded] == [True]


def test_threads_are_served_one_at_a_time(tmp_path: Path) -> None:
    subject, _ = answerer(tmp_path)
    predict, rows = subject.predict(), []
    threads = [
        threading.Thread(target=lambda i=i: rows.append(predict(f"p{i}", str(i)).row(0)))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(rows) == [(f"p{i}", i) for i in range(8)]


def test_a_log_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    subject, _ = answerer(tmp_path / "missing")
    assert subject.answer("a", "5") == 5


def test_a_torn_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log = RowLog([tmp_path / "log"], time.monotonic())
    log.note("one \ud800")
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"type":"noted","t":1,"wh')
    assert [entry.what for entry in read_rows(tmp_path / "log")] == ["one ?"]  # type: ignore[union-attr]
    assert list(read_rows(tmp_path / "none")) == []
