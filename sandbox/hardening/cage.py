"""Puts this process under its layers, in the one order that works. All or nothing: raises OSError."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox import groups
from sandbox.hardening import landlock, seccomp
from sandbox.hardening.syscalls import (
    CAP_DAC_READ_SEARCH,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    can_mount,
    keep_capabilities,
    mount_private_shm,
    prctl,
)

OOM_SCORE = "900"  # when memory runs out, kernels go before the solver
# Without a uid of its own a kernel shares its process limit with the user's others.
SHARED_FORKS = 4

SIGNALS = 256  # on their way, and timers, of which a user may have a number

FOLDERS = ("work", "tmp")
WRITABLE = (Path("/dev/null"), Path("/dev/full"))
SHARED_MEMORY = Path("/dev/shm")
# Of /proc/self, without `net` (the solver's ports, the sockets of others) and `task`, which has it
# too, without `fdinfo` (an open file there holds as much memory as it has text, of which there is no
# end), and without links: a rule for `root` would be one for everything.
OF_ITSELF = (
    *("auxv", "cmdline", "comm", "environ", "fd", "io", "limits", "maps", "oom_score"),
    *("oom_score_adj", "smaps", "smaps_rollup", "stat", "statm", "status"),
)
SYSTEM = tuple(
    Path("/", name)
    for name in (
        *("bin", "lib", "lib32", "lib64", "usr/bin", "usr/lib", "usr/lib32", "usr/lib64"),
        *("usr/local/bin", "usr/local/lib", "usr/share/zoneinfo", "usr/share/terminfo"),
        *("etc/ld.so.cache", "etc/localtime", "dev/random", "dev/urandom"),
        *("proc/cpuinfo", "proc/meminfo", "proc/stat", "proc/loadavg"),
        "sys/devices/system/cpu",
    )
)


@dataclass(frozen=True)
class Cage:
    """What confines one kernel.

    `layers` names those that must hold. `folder` has `work` and `tmp` in it, which belong to the
    kernel. `parent` is the process with which the kernel dies. With `read_anywhere` a uid of its
    own may read what Landlock lets it, whoever owns it (an interpreter in somebody's home). Without
    `private_shm` there is no /dev/shm for it, where Landlock holds. `group` is its control group, if any.
    """

    folder: str
    parent: int
    layers: tuple[str, ...]
    memory_bytes: int
    file_bytes: int
    open_files: int
    processes: int
    shm_bytes: int
    uid: int | None = None
    read_anywhere: bool = False
    private_shm: bool = False
    group: str = ""


def enter(cage: Cage) -> None:
    """Everything that can be done before the kernel is set up; before any thread is started."""
    _limit(cage)
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    if cage.group:
        groups.join(Path(cage.group))
    mounted = cage.private_shm and can_mount()
    if mounted:
        mount_private_shm(cage.shm_bytes)
    rules = landlock.Rules() if "landlock" in cage.layers else None
    if rules is not None:  # as the user that reaches all of these
        folder = Path(cage.folder)
        rules.allow(_readable())
        rules.allow([*WRITABLE, *(folder / name for name in FOLDERS)], writing=True)
    kept = 0
    if "uid" in cage.layers:
        assert cage.uid is not None
        kept = 1 << CAP_DAC_READ_SEARCH if cage.read_anywhere and rules is not None else 0
        _become(cage.uid, keeping=bool(kept))
    if cage.private_shm and not mounted:
        mount_private_shm(cage.shm_bytes)
    # Not before: a limit that was there when a namespace is made is one for all that its user runs.
    _limit_processes(cage)
    keep_capabilities(kept)
    if rules is not None:
        if cage.private_shm:
            rules.allow([SHARED_MEMORY], writing=True)
        rules.enforce()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # daemons of a cell stay below this process
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != cage.parent:  # it died before the signal was asked for
        os._exit(1)


def close(cage: Cage) -> None:
    """The rest, once the kernel's sockets are bound; covers the threads that run by then."""
    if "seccomp" in cage.layers:
        seccomp.install(as_owner="uid" not in cage.layers)


def _readable() -> list[Path]:
    """The interpreter, its libraries, system programs, and what the kernel says of this process."""
    paths = list(SYSTEM)
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    for prefix in map(Path, prefixes):
        paths += [prefix / name for name in ("bin", "lib", "lib64", "include", "pyvenv.cfg")]
        # A link may lead elsewhere. What is not below a prefix (an editable project) stays hidden.
        paths += [Path(entry) for entry in sys.path if prefix in Path(entry).parents]
    return [*paths, *(Path("/proc/self", name) for name in OF_ITSELF)]


def _become(uid: int, *, keeping: bool) -> None:
    """Be this user; what capabilities remain is for the caller to say if `keeping` any."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if keeping:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_DUMPABLE, 1)  # a changed uid hid this process from itself in /proc


def _limit(cage: Cage) -> None:
    _bound(resource.RLIMIT_AS, cage.memory_bytes)
    _bound(resource.RLIMIT_FSIZE, cage.file_bytes)
    _bound(resource.RLIMIT_NOFILE, cage.open_files)
    _bound(resource.RLIMIT_CORE, 0)


def _limit_processes(cage: Cage) -> None:
    if "uid" in cage.layers or cage.private_shm:  # a namespace counts for itself
        _bound(resource.RLIMIT_NPROC, cage.processes)
    else:
        _bound(resource.RLIMIT_NPROC, _tasks_of_ours() + SHARED_FORKS * cage.processes)
    _bound(resource.RLIMIT_SIGPENDING, SIGNALS)


def _bound(kind: int, value: int) -> None:
    """Lower one resource limit; a limit that is already lower stays."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses RLIMIT_AS
        resource.setrlimit(kind, (value, value))


def _tasks_of_ours() -> int:
    """Threads that this user runs already."""
    count = 0
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if process.name.isdecimal() and process.stat().st_uid == os.getuid():
                count += int((process / "stat").read_text().rpartition(")")[2].split()[17])
    return count
