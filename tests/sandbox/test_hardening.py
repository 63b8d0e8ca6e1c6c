"""The layers: that each holds on its own, is announced, and can be required."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.folders import remove_folder
from sandbox.hardening import seccomp
from sandbox.isolation import ORDER, Isolation, IsolationError, isolation
from sandbox.launcher import ColdLauncher, Launcher
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.ports import Sandbox
from sandbox.uids import BLOCK, FEW, LOCKS, Uids, trial_uid
from sandbox.zygote_launcher import ZygoteLauncher
from tests.sandbox.conftest import entries, running, until

SMALL = Limits(spares=0)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give kernels a uid")
DAEMON = """
import os
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if (daemon := os.fork()) == 0:
        os.execve('/bin/sleep', ['sleep', '300'], {})
    os.write(writing, str(daemon).encode())
    os._exit(0)
os.wait()
print(os.read(reading, 99).decode())
"""


@pytest.mark.parametrize(
    ("layers", "level", "words"),
    [
        (("uid", "landlock", "seccomp"), "L3", "uid, landlock, seccomp"),
        (("landlock", "seccomp", "subreaper"), "L2", "landlock, seccomp, subreaper"),
        (("uid",), "L1", "uid (no file or network isolation)"),
        (("uid", "seccomp"), "L1", "uid, seccomp (no file isolation)"),
        (("landlock", "subreaper"), "L0", "landlock, subreaper (no network isolation)"),
        ((), "L0", "rlimits, process groups (no file or network isolation)"),
    ],
)
def test_what_is_in_force_is_said(layers: tuple[str, ...], level: str, words: str) -> None:
    held = Isolation(layers)
    assert (held.level, str(held)) == (level, words)


def test_a_missing_layer_can_be_made_fatal() -> None:
    held = Isolation(("seccomp",), {"uid": "not root"})
    held.require(("seccomp",))
    with pytest.raises(IsolationError, match="uid: not root"):
        held.require(("seccomp", "uid"))


async def test_the_pool_refuses_to_start_without_what_is_required() -> None:
    lacking = next(layer for layer in ORDER if layer not in isolation().layers)
    with pytest.raises(IsolationError, match=lacking):
        await KernelPool(Limits(require=(lacking,))).__aenter__()
    with pytest.raises(ValueError, match="require"):
        Limits.model_validate({"require": ["chroot"]})


@linux
def test_this_linux_has_every_layer() -> None:
    assert {"landlock", "seccomp"} <= set(isolation().layers)
    assert ("uid" if os.geteuid() == 0 else "subreaper") in isolation().layers


@pytest.mark.parametrize("as_owner", [True, False])
def test_jumps_of_the_filter_stay_inside(as_owner: bool) -> None:
    for column, architecture in seccomp.ARCHITECTURES.values():
        steps = seccomp.program(column, architecture, as_owner=as_owner)
        assert len(steps) < 4096
        for at, (code, yes, no, _) in enumerate(steps):
            if code in (seccomp.JUMP_EQUAL, seccomp.JUMP_AT_LEAST, seccomp.JUMP_ANY_BIT):
                assert at + 1 + max(yes, no) < len(steps)
                assert max(yes, no) < 256
        assert steps[-1] == (seccomp.RETURN, 0, 0, seccomp.ALLOW)


ESCAPES = {
    "file": "open('{path}').read()",
    "network": "import socket; socket.socket()",
    "signal": "import os; os.kill({pid}, 0)",
}


@linux
@pytest.mark.parametrize("kind", [ZygoteLauncher, ColdLauncher])
@pytest.mark.parametrize(
    ("layers", "stopped"),
    [
        ((), set()),
        (("seccomp", "subreaper"), {"network"}),
        (("landlock", "seccomp", "subreaper"), {"file", "network", "signal"}),
        pytest.param(("uid",), {"file", "signal"}, marks=as_root),
        pytest.param(("uid", "landlock", "seccomp"), {"file", "network", "signal"}, marks=as_root),
    ],
)
async def test_each_layer_stops_its_own(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: type[ZygoteLauncher | ColdLauncher],
    layers: tuple[str, ...],
    stopped: set[str],
) -> None:
    held = replace(isolation(), layers=layers)
    monkeypatch.setattr("sandbox.workspace.isolation", lambda: held)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    launcher: Launcher = kind(SMALL)
    async with KernelPool(SMALL, launcher) as pool:
        assert pool.isolation == str(held)
        async with pool.lease() as sandbox:
            for name, code in ESCAPES.items():
                result = await sandbox.execute(code.format(path=secret, pid=os.getpid()), 20)
                assert (result.status == "error") == (name in stopped), (name, result)
            daemon = int((await sandbox.execute(DAEMON, 20)).stdout)
            assert running(daemon)
        assert await until(lambda: not running(daemon), 20)


async def value(sandbox: Sandbox, code: str) -> object:
    result = await sandbox.execute(code, 20)
    assert result.status == "ok", result
    return ast.literal_eval(result.stdout)


@linux
async def test_every_thread_of_a_kernel_is_confined() -> None:
    async with KernelPool(SMALL) as pool, pool.lease() as sandbox:
        pid = await value(sandbox, "import os; os.getpid()")
        tasks = Path(f"/proc/{pid}/task")
        statuses = [(tasks / name / "status").read_text() for name in entries(tasks)]
        seen = [status.split("Seccomp:")[1].split()[0] for status in statuses]
        assert len(seen) > 3
        assert set(seen) == {"2"}
        escape = """
import threading
k = get_ipython().kernel
found = {}
def look(name):
    try: found[name] = open('/etc/hostname').read()
    except OSError as error: found[name] = type(error).__name__
    done.release()
done = threading.Semaphore(0)
for name, thread in (('iopub', k.iopub_thread), ('control', k.control_thread),
                     ('shell', k.shell_channel_thread)):
    thread.io_loop.add_callback(look, name)
    done.acquire()
found"""
        assert set((await value(sandbox, escape)).values()) == {"PermissionError"}  # type: ignore[attr-defined]


@linux
async def test_what_was_not_loaded_before_can_be_loaded_late() -> None:
    late = "import wave, sympy.physics.quantum, sys, subprocess\n"
    child = (
        "subprocess.run([sys.executable, '-c', 'import json.tool; print(5)'], capture_output=True)"
    )
    async with KernelPool(SMALL) as pool, pool.lease() as sandbox:
        assert await value(sandbox, f"{late}{child}.stdout") == b"5\n"


@linux
async def test_many_kernels_of_one_user_have_room_for_threads() -> None:
    """Each for itself: the limit on processes is none on all kernels together."""
    threads = """
import threading
for _ in range(10): threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
    async with KernelPool(SMALL) as pool, contextlib.AsyncExitStack() as stack:
        leases = [await stack.enter_async_context(pool.lease()) for _ in range(10)]
        results = await asyncio.gather(*(lease.execute(threads, 60) for lease in leases))
        assert [result.status for result in results] == ["ok"] * 10


async def test_kernels_do_not_draw_the_same_numbers() -> None:
    draw = "import random, numpy, uuid; print([random.random(), numpy.random.rand(), uuid.uuid4().hex])"
    async with KernelPool(Limits(spares=2)) as pool, pool.lease() as one, pool.lease() as other:
        first, second = await value(one, draw), await value(other, draw)
        assert isinstance(first, list)
        assert isinstance(second, list)
        assert not set(first) & set(second)


@linux
async def test_shared_memory_is_a_kernels_own_and_bounded() -> None:
    if not isolation().private_shm:
        pytest.skip("no mounts of one's own are to be had here")
    look = "import os; print(os.listdir('/dev/shm'))"
    fill = "f = open('/dev/shm/mine', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()"
    limits = Limits(spares=0, shm_bytes=8 << 20)
    async with KernelPool(limits) as pool, pool.lease() as one, pool.lease() as other:
        assert (await one.execute(fill, 20)).error == "OSError"
        assert await value(one, look) == ["mine"]
        assert await value(other, look) == []
    assert "mine" not in entries(Path("/dev/shm"))


@linux
async def test_where_shared_memory_cannot_be_private_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = replace(isolation(), private_shm=False)
    monkeypatch.setattr("sandbox.workspace.isolation", lambda: held)
    left = f"left-{os.getpid()}"
    async with KernelPool(SMALL) as pool, pool.lease() as sandbox:
        result = await sandbox.execute(f"open('/dev/shm/{left}', 'w')", 20)
        assert result.error == "PermissionError"
        assert (await sandbox.execute("1 + 1", 20)).stdout == "2\n"
    assert left not in entries(Path("/dev/shm"))


@as_root
async def test_shared_memory_without_landlock_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    held = replace(isolation(), private_shm=False, layers=("uid",))
    monkeypatch.setattr("sandbox.workspace.isolation", lambda: held)
    left = Path("/dev/shm", f"left-{os.getpid()}")
    async with KernelPool(SMALL) as pool:
        async with pool.lease() as sandbox:
            result = await sandbox.execute(f"open({str(left)!r}, 'w').write('x')", 20)
            assert result.status == "ok"
            assert left.name in entries(left.parent)
        assert await until(lambda: left.name not in entries(left.parent), 20)


@as_root
def test_uids_are_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Uids(), Uids()
    try:
        mine, theirs = {one.take() for _ in range(9)}, {other.take() for _ in range(9)}
        assert len(mine | theirs) == 18
        assert min(mine | theirs) > trial_uid()
        for _ in range(BLOCK // 2 - 9):
            one.take()
        with pytest.raises(OSError, match="no more than"):
            one.take()
        one.give_back(min(mine))
        assert one.take() == min(mine)
    finally:
        one.close()
        other.close()


@pytest.fixture
def few_uids(monkeypatch: pytest.MonkeyPatch) -> range:
    """As many as make two blocks, so that what is drawn is known; other ones beside other workers."""
    start = FEW.start + 2 * BLOCK * (os.getpid() % 29)  # below the uid of test_unprivileged.py
    few = range(start, start + 2 * BLOCK)
    monkeypatch.setattr("sandbox.uids._ids", lambda: few)
    return few


@as_root
def test_blocks_of_uids_run_out_and_come_back(few_uids: range) -> None:
    one, other = Uids(), Uids()
    assert {one.take(), other.take()} == {few_uids.start, few_uids.start + BLOCK}
    with pytest.raises(OSError, match="every block of user ids is taken"):
        Uids()
    one.close()
    again = Uids()
    again.close()
    other.close()
    for start in (few_uids.start, few_uids.start + BLOCK):
        assert str(start) not in entries(Path("/run", LOCKS))


@as_root
def test_uids_of_a_solver_that_shares_no_file_are_seen(
    few_uids: range, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As from another container: by what runs, and not by the names of sockets."""
    taken = few_uids.start + 6
    with contextlib.ExitStack() as opened:
        theirs = opened.enter_context(
            subprocess.Popen(["/bin/sleep", "600"], user=taken, group=taken)
        )
        opened.callback(theirs.kill)
        for number in range(2):
            name = opened.enter_context(socket.socket(socket.AF_UNIX))
            with contextlib.suppress(OSError):  # somebody else's already, which is as good
                name.bind(f"\0sandbox-uids-{number}")
        uids = Uids()
        opened.callback(uids.close)
        assert uids.take() == few_uids.start + BLOCK


SOLVERS = """
import asyncio, sys
from sandbox.pool import KernelPool
from sandbox.limits import Limits
async def main():
    async with KernelPool(Limits(spares=0)) as pool, pool.lease() as sandbox:
        print((await sandbox.execute("import os; os.getuid()", 60)).stdout.strip(), flush=True)
        sys.stdin.readline()
        for _ in range(5):
            async with pool.lease() as other:
                await other.execute("1", 60)
        print((await sandbox.execute("6 * 7", 60)).stdout.strip(), flush=True)
asyncio.run(main())
"""


@as_root
def test_two_solvers_in_networks_of_their_own_leave_each_other_alone() -> None:
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces are to be had here")
    solvers = [
        subprocess.Popen(
            [*alone, sys.executable, "-c", SOLVERS],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    uids = [solver.stdout.readline() for solver in solvers if solver.stdout]
    said = [solver.communicate("\n")[0] for solver in solvers]
    assert len(set(uids)) == 2
    assert said == ["42\n", "42\n"]


def test_a_folder_goes_whatever_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    (folder / "a" / "b").chmod(0)
    (folder / "a").chmod(0)
    home = Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(1500):
            Path("deep").mkdir()
            os.chdir("deep")
    finally:
        os.chdir(home)
    remove_folder(folder)
    assert not folder.exists()
    assert tmp_path.exists()
    remove_folder(folder)


def test_a_link_that_was_a_folder_a_moment_ago_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a survivor of a kernel could swap it between the look and the removal."""
    precious = tmp_path / "home" / "precious"
    (tmp_path / "home").mkdir(0o755)
    precious.write_text("x")
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    scandir = os.scandir

    def swapping(place: Any) -> Any:
        found = list(scandir(place))
        for entry in found:
            entry.is_dir(follow_symlinks=False)  # what is known of it stays known
        if (folder / "inside").is_dir() and not (folder / "inside").is_symlink():
            (folder / "inside").rmdir()
            (folder / "inside").symlink_to(tmp_path / "home")
        return found

    monkeypatch.setattr(os, "scandir", swapping)
    remove_folder(folder)
    assert precious.read_text() == "x"
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o755
