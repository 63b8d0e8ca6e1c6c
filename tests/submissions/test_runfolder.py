"""The run folder: whatever is wrong with one place, the next is taken, and nothing costs an answer."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from solver.config import SolverConfig
from solver.journal.events import RunEnded
from solver.journal.writer import JournalWriter
from solver.runs.settings import load_config
from submissions import runfolder
from submissions.runfolder import open_run_folder, release_space, reserve_space
from tests.support.submissions import SMALL, WORKER

CONFIG = SolverConfig()
ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary folder and memory, where a test can look at them."""
    monkeypatch.setattr(runfolder.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(runfolder, "_MEMORY", tmp_path / "memory")


def test_the_folder_that_is_named(tmp_path: Path) -> None:
    found, passed = open_run_folder(tmp_path / "run", CONFIG)
    assert (found, passed) == (tmp_path / "run", [])
    assert (
        SolverConfig.model_validate_json((tmp_path / "run" / "config.json").read_bytes()) == CONFIG
    )
    assert open_run_folder(tmp_path / "run", CONFIG)[0] == found, "the same run goes on there"


def test_no_temporary_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(runfolder.tempfile, "gettempdir", none)
    (tmp_path / "file").write_text("")
    found, passed = open_run_folder(tmp_path / "file" / "run", CONFIG)
    assert found == tmp_path / "memory" / "run"
    assert len(passed) == 20


def test_a_run_with_other_settings_stays_as_it_is(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "run", CONFIG)
    other = CONFIG.model_copy(update={"seed": 9})
    found, passed = open_run_folder(tmp_path / "run", other)
    assert found == tmp_path / "run-2"
    assert passed == [f"{tmp_path}/run: it holds a run with another seed"]


def test_a_folder_that_a_living_process_writes_into(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "run", CONFIG)
    with (tmp_path / "run" / "journal.jsonl").open("ab") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        found, passed = open_run_folder(tmp_path / "run", CONFIG)
    assert found == tmp_path / "run-2"
    assert passed == [f"{tmp_path}/run: another process writes into it"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"no": 1}'])
def test_a_config_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes(content)
    assert open_run_folder(tmp_path / "run", CONFIG)[0] == tmp_path / "run-2"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is where nobody may write")
def test_where_nothing_may_be_written_it_is_the_temporary_folder(tmp_path: Path) -> None:
    found, passed = open_run_folder(Path("/proc/run"), CONFIG)
    assert found == tmp_path / "tmp" / "run"
    assert passed[0].startswith("/proc/run: ")


def test_full_disks_end_in_memory_and_after_that_in_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = {tmp_path / "memory"}

    def usage(path: Path) -> Usage:
        return Usage(1 << 40, 0, (1 << 30) if path.parent in roomy else 1000)

    monkeypatch.setattr(runfolder.shutil, "disk_usage", usage)
    found, passed = open_run_folder(tmp_path / "run", CONFIG)
    assert found == tmp_path / "memory" / "run"
    assert passed[0] == f"{tmp_path}/run: No space left on device"
    roomy.clear()
    assert open_run_folder(tmp_path / "run", CONFIG)[0] is None


def test_a_journal_stops_before_the_disk_is_full(tmp_path: Path) -> None:
    said: list[str] = []
    journal = JournalWriter(tmp_path / "journal.jsonl", said.append, keep_free=1 << 62)
    journal.record(RunEnded())
    journal.record(RunEnded())
    journal.close()
    assert (tmp_path / "journal.jsonl").read_bytes() == b""
    assert len(said) == 1 and "No space left on device; the run goes on" in said[0]


def test_a_piece_of_the_disk_is_kept_and_given_back_when_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve_space(tmp_path)
    (reserve,) = tmp_path.iterdir()
    assert reserve.stat().st_blocks * 512 >= 1 << 20, "taken, not only promised"
    free = [2 << 20, 100, 100]
    monkeypatch.setattr(runfolder.shutil, "disk_usage", lambda _: Usage(1 << 40, 0, free.pop(0)))
    release_space(tmp_path)
    assert reserve.exists()
    release_space(tmp_path)
    assert not reserve.exists()
    reserve_space(tmp_path / "gone")
    release_space(tmp_path / "gone")


ON_A_FULL_DISK = """
import sys, time
from functools import partial
from pathlib import Path
from submissions.child import Child
from submissions.outcome import WorkerLimits
from submissions.protocol import Task
from submissions.supervisor import Supervisor

folder = Path(sys.argv[1])
try:
    (folder / "filler").write_bytes(bytes(1 << 20))
except OSError:
    pass
command = (*sys.argv[2:], "--folder", str(folder), "--started-at", repr(time.monotonic()))
said = []
supervisor = Supervisor(partial(Child, command, folder / "worker.log"), said.append, WorkerLimits())
supervisor.start()
task = Task(problem_id="p", statement="What is 17?", number=1, allotted_s=60, reserve_s=5,
            deadline=time.monotonic() + 60)
outcome = supervisor.solve(task, time.monotonic() + 60)
supervisor.close()
print(outcome.solved.answer if outcome.solved else outcome.notes, said)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
def test_a_worker_on_a_full_disk_answers(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    config = load_config("embedded", None, SMALL)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    (tmp_path / "program.py").write_text(ON_A_FULL_DISK)
    mounted = 'mount -t tmpfs -o size=128k none "$0" && cp config.json "$0" && exec "$@"'
    program = [sys.executable, str(tmp_path / "program.py"), str(disk), *WORKER]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mounted, str(disk), *program],
        capture_output=True, text=True, timeout=150, check=False, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    if "ermi" in done.stderr and not done.stdout:
        pytest.skip(f"no mount of its own here: {done.stderr.strip()}")
    assert done.stdout == "17 []\n", done.stderr
