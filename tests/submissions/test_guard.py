"""Nothing of a command survives its guard, however it tries to get away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from submissions.guard import end_tree, guarded
from tests.support.submissions import processes_of, wait_until

# A daemon: its parent is gone, its session is its own, and it will not be terminated.
DAEMON = """
import os, signal, sys, time
for _ in range(2):
    if os.fork():
        time.sleep(float(sys.argv[2]))
        os._exit(3)
    os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1] + "/daemon", "w").close()
time.sleep(99)
"""


def daemon(folder: Path, leader_stays_s: float) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-c", DAEMON, str(folder), str(leader_stays_s))
    process = subprocess.Popen(guarded(command), start_new_session=True)
    wait_until((folder / "daemon").exists)
    return process


def test_the_status_is_the_commands() -> None:
    run = subprocess.run(guarded((sys.executable, "-c", "raise SystemExit(7)")), check=False)
    assert run.returncode == 7
    kill = "import os; os.kill(os.getpid(), 9)"
    assert subprocess.run(guarded((sys.executable, "-c", kill)), check=False).returncode == 137


def test_daemons_go_with_the_command(tmp_path: Path) -> None:
    process = daemon(tmp_path, leader_stays_s=0.5)
    assert process.wait(timeout=20) == 3
    assert processes_of(tmp_path) == []


def test_daemons_go_when_the_tree_is_ended(tmp_path: Path) -> None:
    process = daemon(tmp_path, leader_stays_s=60)
    assert len(processes_of(tmp_path)) >= 3
    assert end_tree(process.pid) == []
    process.wait(timeout=20)
    assert processes_of(tmp_path) == []


def test_daemons_go_when_the_guard_is_terminated(tmp_path: Path) -> None:
    process = daemon(tmp_path, leader_stays_s=60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert processes_of(tmp_path) == []


def test_daemons_go_when_whoever_started_the_guard_is_killed(tmp_path: Path) -> None:
    command = guarded((sys.executable, "-c", DAEMON, str(tmp_path), "60"))
    starter = f"import subprocess, time; subprocess.Popen({command!r}); time.sleep(99)"
    with subprocess.Popen((sys.executable, "-c", starter)) as process:
        wait_until((tmp_path / "daemon").exists)
        process.kill()
        process.wait()
    wait_until(lambda: processes_of(tmp_path) == [])


def test_what_is_gone_already_is_fine() -> None:
    process = subprocess.Popen(guarded(("true",)))
    process.wait()
    assert end_tree(process.pid) == []
