"""A worker is lost at every stage, and its problem goes on; real processes, a scripted solver."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from solver.files.whole import write_whole
from solver.journal.events import (
    SCHEMA_MINOR,
    Checked,
    Ended,
    ProblemStarted,
    RunResumed,
    RunStarted,
    Sampled,
    Solved,
)
from solver.journal.reader import read_journal
from solver.runs.settings import load_config
from submissions.child import Child
from submissions.outcome import WorkerLimits
from submissions.protocol import Task
from submissions.settings import REHEARSAL, Rehearsal
from submissions.supervisor import MAX_LOSSES, Supervisor
from tests.support.processes import command_of
from tests.support.submissions import SMALL, WORKER, processes_of, wait_until

LIMITS = WorkerLimits(start_s=20.0, silence_s=2.0, least_silence_s=2.0)


class Bench:
    """A supervisor on a folder, and what it said."""

    def __init__(
        self, folder: Path, command: tuple[str, ...] = WORKER, limits: WorkerLimits = LIMITS
    ) -> None:
        self.folder = folder
        self.said: list[str] = []
        config = load_config("embedded", None, (*SMALL, "seed=5"))
        write_whole(folder / "config.json", config.model_dump_json())
        command = (*command, "--folder", str(folder), "--started-at", repr(time.monotonic()))
        spawn = partial(Child, command, folder / "worker.log")
        self.supervisor = Supervisor(spawn, self.said.append, limits)

    def solve(self, number: int = 1, seconds: float = 20.0, name: str = "p"):  # type: ignore[no-untyped-def]
        task = Task(
            problem_id=f"{name}{number}",
            statement=f"What is {100 + number}?",
            number=number,
            allotted_s=seconds,
            reserve_s=seconds / 10,
            deadline=time.monotonic() + seconds,
        )
        return self.supervisor.solve(task, task.deadline)

    def events(self, kind: type) -> list:  # type: ignore[type-arg]
        events = read_journal(self.folder / "journal.jsonl").events
        return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.supervisor.close()
    assert processes_of(tmp_path) == []


def inject(monkeypatch: pytest.MonkeyPatch, folder: Path, faults: str) -> None:
    rehearsal = Rehearsal(
        input=folder, started_at=0.0, limit_s=10.0, num_problems=3, port=1, key="00", faults=faults
    )
    monkeypatch.setenv(REHEARSAL, rehearsal.model_dump_json())


def test_problems_one_after_the_other(bench: Bench) -> None:
    bench.supervisor.start()
    assert bench.supervisor.wait_ready(time.monotonic() + 20)
    outcomes = [bench.solve(number) for number in (1, 2, 3)]
    assert [outcome.solved.answer for outcome in outcomes] == [101, 102, 103]
    assert [outcome.best for outcome in outcomes] == [101, 102, 103]
    assert not any(outcome.notes for outcome in outcomes)
    assert bench.supervisor.lost_s == 0
    assert bench.said == []


@pytest.mark.parametrize("stage", ["begin", "launch", "check", "resume", "vote"])
@pytest.mark.parametrize("kind", ["crash", "hang", "raise", "exit"])
def test_a_fault_at_any_stage_costs_time_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, stage: str
) -> None:
    inject(monkeypatch, tmp_path, f"{kind}@2:{stage}")
    bench.supervisor.start()
    outcomes = [bench.solve(number) for number in (1, 2, 3)]
    assert [outcome.solved.answer for outcome in outcomes] == [101, 102, 103]
    assert outcomes[0].notes == outcomes[2].notes == []
    if kind == "raise":
        assert outcomes[1].notes == []
        assert stage == "vote" or "tried again" in outcomes[1].solved.degraded
        assert bench.supervisor.lost_s == 0
    else:
        why = "silent for" if kind == "hang" else "crashed"
        assert outcomes[1].notes[0].startswith(f"solver lost: {why}")
        assert bench.supervisor.lost_s == bench.supervisor.lost_s > 0, "it has stopped growing"
        assert len(bench.events(RunResumed)) == 1
    assert sorted(event.problem_id for event in bench.events(Solved)) == ["p1", "p2", "p3"]


def test_finished_trajectories_are_not_run_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inject(monkeypatch, tmp_path, "crash@1:resume")
    bench.supervisor.start()
    outcome = bench.solve(1)
    assert outcome.solved.answer == 101
    events = read_journal(bench.folder / "journal.jsonl").events
    _, second = (i for i, e in enumerate(events) if isinstance(e, ProblemStarted))
    before = {e.index: e.stop_reason for e in events[:second] if isinstance(e, Ended)}
    (kept,) = (e.kept for e in events[:second] if isinstance(e, Checked))
    assert "pruned" in before.values()
    assert {e.index for e in events[second:] if isinstance(e, Sampled)} == set(kept)


def test_a_worker_that_takes_over_knows_what_was_solved(bench: Bench) -> None:
    bench.supervisor.start()
    assert bench.solve(1).solved.answer == 101
    bench.supervisor.close()
    again = Bench(bench.folder)
    again.supervisor.start()
    assert again.solve(1).solved.answer == 101
    again.supervisor.close()
    assert len(bench.events(Solved)) == 1
    beginnings = [*bench.events(RunStarted), *bench.events(RunResumed)]
    assert [event.schema_minor for event in beginnings] == [SCHEMA_MINOR] * 2


def test_a_kill_from_outside_while_idle_is_repaired(bench: Bench) -> None:
    bench.supervisor.start()
    assert bench.supervisor.wait_ready(time.monotonic() + 20)
    for process in psutil.Process().children(recursive=True):
        if "scripted_worker" in command_of(process):
            os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: bench.said != [])
    assert bench.solve(1).solved.answer == 101
    assert bench.said == ["the solver was lost: crashed"]


def test_time_in_which_the_notebook_itself_was_stopped_is_no_silence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + stopped_s)
    monkeypatch.setattr("submissions.supervisor.time", clock)
    bench.supervisor.start()
    assert bench.supervisor.wait_ready(time.monotonic() + 20)
    for _ in range(6):
        stopped_s += 10.0
        time.sleep(0.15)
    assert bench.solve(1, seconds=80.0).solved.answer == 101
    assert bench.said == []


def test_a_stalled_worker_is_answered_for_and_then_replaced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inject(monkeypatch, tmp_path, "stall@1")
    bench.supervisor.start()
    assert bench.supervisor.wait_ready(time.monotonic() + 20)
    outcome = bench.solve(1, seconds=1.0)
    assert outcome.solved is None and outcome.notes == ["time is up"]
    assert bench.solve(2).solved.answer == 102  # a new task ends the old one
    assert bench.said == []


def test_the_best_vote_so_far_is_there_when_time_is_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, limits=WorkerLimits(silence_s=60.0, least_silence_s=60.0))
    inject(monkeypatch, tmp_path, "hang@1:vote")
    bench.supervisor.start()
    assert bench.supervisor.wait_ready(time.monotonic() + 20)
    outcome = bench.solve(1, seconds=2.0)
    assert outcome.solved is None
    assert outcome.best == 101
    bench.supervisor.close()
    assert processes_of(tmp_path) == []


def test_a_problem_that_kills_every_worker_is_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stages = ("begin", "launch", "check", "resume")
    inject(monkeypatch, tmp_path, ",".join(f"crash@1:{stage}" for stage in stages))
    bench.supervisor.start()
    outcome = bench.solve(1, seconds=60)
    assert outcome.solved is None
    assert outcome.notes[-1] == f"given up after {MAX_LOSSES} solvers were lost"
    assert bench.solve(2).solved.answer == 102


def test_a_worker_that_refuses_is_not_asked_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (*WORKER, "--refuse"))
    bench.supervisor.start()
    assert not bench.supervisor.wait_ready(time.monotonic() + 20)
    outcome = bench.solve(1, seconds=60)
    assert outcome.notes == ["no solver: no such model here"]
    bench.supervisor.close()
    assert processes_of(tmp_path) == []


def test_an_engine_that_samples_nothing_any_more_costs_a_restart_and_no_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOP_SOLVER_SCRIPT", "dies")
    bench.supervisor.start()
    outcomes = [bench.solve(number) for number in (1, 2, 3)]
    assert [outcome.solved.answer for outcome in outcomes] == [101, 102, 103]
    assert [len(outcome.notes) for outcome in outcomes] == [0, 1, 0]
    assert outcomes[1].notes[0].startswith("solver lost: crashed")
    assert "the engine samples nothing any more" in (bench.folder / "worker.log").read_text()
    assert sorted(event.problem_id for event in bench.events(Solved)) == ["p1", "p2", "p3"]


def test_a_start_that_fails_after_others_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The memory of the one that was killed may not be free yet."""
    monkeypatch.setenv("STOP_SOLVER_SCRIPT", "stumbles")
    inject(monkeypatch, tmp_path, "crash@1:resume")
    bench.supervisor.start()
    assert bench.solve(1).solved.answer == 101
    assert "the solver did not start: no such model here" in bench.said


@pytest.mark.parametrize("command", [("false",), ("/nowhere/python",), ("cat", "/dev/zero")])
def test_what_is_no_worker_never_keeps_a_row_waiting(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    bench = Bench(tmp_path, command)
    bench.supervisor.start()
    outcome = bench.solve(1, seconds=1.5)
    assert outcome.solved is None and outcome.best is None
    bench.supervisor.close()


def test_without_a_worker_there_is_an_outcome_at_once() -> None:
    supervisor = Supervisor(None, print, LIMITS)  # type: ignore[arg-type]
    supervisor.give_up("no model")
    assert not supervisor.wait_ready(time.monotonic() + 60)
    task = Task(
        problem_id="p",
        statement="",
        number=1,
        allotted_s=60,
        reserve_s=1,
        deadline=time.monotonic() + 60,
    )
    assert supervisor.solve(task, task.deadline).notes == ["no solver: no model"]
    supervisor.close()
