"""Faults are parsed, and injected once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from solver.config import VoteConfig
from solver.engines.vllm import watcher
from solver.errors import ConfigError
from solver.journal.events import Checked, Ended, Event, ProblemStarted
from solver.journal.history import ProblemHistory
from solver.types import Problem, PruneReason, StopReason
from submissions.faults import (
    Fault,
    FaultInjector,
    InjectedError,
    _fill,
    _server,
    _strike,
    parse_faults,
    random_faults,
)
from submissions.votes import VotesSoFar
from tests.support.submissions import wait_until

BEGUN = ProblemStarted(problem_id="p", prompt_token_ids=[], allotted_s=1.0)
CHECKED = Checked(
    problem_id="p",
    kept=[0],
    dropped=[1],
    scores={},
    method="",
    reason=PruneReason.SCORED,
    started=0,
)


def ended(index: int, reason: StopReason = StopReason.ANSWERED, answer: int | None = None) -> Ended:
    return Ended(
        problem_id="p", index=index, stop_reason=reason, num_sampled_tokens=index + 5, answer=answer
    )


def test_faults_are_read() -> None:
    assert parse_faults("crash@3, hang@5:launch,slow-start,") == (
        Fault("crash", 3, "check"),
        Fault("hang", 5, "launch"),
        Fault("slow-start"),
    )
    assert parse_faults("") == ()
    for text in ("crash", "crash@", "crash@x", "melt@3", "crash@3:lunch", "slow-start@3"):
        with pytest.raises(ConfigError, match="write kind@problem"):
            parse_faults(text)


def test_faults_are_read_as_they_are_written() -> None:
    for seed in range(20):
        faults = random_faults(seed, 50, 4)
        assert parse_faults(",".join(map(str, faults))) == faults


@pytest.mark.parametrize("stage", ["begin", "launch", "check", "resume"])
def test_a_fault_strikes_at_its_stage_and_once(tmp_path: Path, stage: str) -> None:
    events: dict[str, Event] = {
        "begin": BEGUN,
        "launch": ended(0, StopReason.MARK),
        "check": CHECKED,
        "resume": ended(0),
    }

    def injected(faults: FaultInjector, number: int) -> list[str]:
        found = []
        assert not faults.begin(number)
        for name, event in events.items():
            try:
                faults.observe(event)
                faults.observe(event)
            except InjectedError:
                found.append(name)
        return found

    faults = FaultInjector([Fault("raise", 2, stage)], tmp_path, 0.0)
    assert injected(faults, 1) == []
    assert injected(faults, 2) == [stage]
    assert injected(faults, 2) == []
    assert injected(FaultInjector([Fault("raise", 2, stage)], tmp_path, 0.0), 2) == []


def test_the_vote_so_far_is_told_when_it_changes() -> None:
    told: list[int] = []
    votes = VotesSoFar(VoteConfig(), lambda message: told.append(message.answer))  # type: ignore[union-attr]
    votes.begin(ProblemHistory(Problem("p", "")))
    votes.observe(BEGUN)
    votes.observe(ended(0, StopReason.MARK))
    votes.observe(ended(2, answer=7))
    votes.observe(CHECKED)
    votes.observe(ended(1, answer=8))  # dropped by the check: a full recording ends it all the same
    votes.observe(ended(3, answer=7))
    votes.observe(ended(4, answer=None))
    assert told == [7]
    votes.observe(ended(5, answer=9).model_copy(update={"problem_id": "q"}))
    votes.observe(ended(5, answer=9))
    votes.observe(ended(6, answer=9))
    votes.observe(ended(7, answer=9))
    assert told == [7, 9]


def test_the_vote_so_far_weighs_as_the_run_does() -> None:
    told: list[int] = []
    config = VoteConfig(rule="weighted")
    votes = VotesSoFar(config, lambda message: told.append(message.answer))  # type: ignore[union-attr]
    for name in ("p", "q"):  # what a check said of one problem is nothing to the next
        votes.begin(ProblemHistory(Problem(name, "")))
        if name == "p":
            scores = {2: 3.0, 3: -2.0, 4: -2.0}
            votes.observe(CHECKED.model_copy(update={"scores": scores}))
        for index, answer in [(2, 7), (3, 9), (4, 9)]:
            votes.observe(ended(index, answer=answer).model_copy(update={"problem_id": name}))
    assert told == [7, 7, 9]


def test_a_server_is_found_below_its_watcher_and_killed(capsys: pytest.CaptureFixture[str]) -> None:
    _strike("kill", "server")
    assert capsys.readouterr().err == "not injected: there is no server to kill\n"
    command = (sys.executable, "-I", watcher.__file__, "1", "sleep", "60")
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        wait_until(lambda: _server(psutil.Process()) is not None)
        server = _server(psutil.Process())
        assert server is not None
        wait_until(lambda: server.cmdline() == ["sleep", "60"])
        _strike("kill", "server")
        assert process.wait(timeout=20) == 128 + signal.SIGKILL


def test_nobodys_own_disk_is_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fill(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == "not injected: the disk is too large to be filled\n"
