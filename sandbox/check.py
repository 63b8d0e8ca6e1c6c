"""The self-check: tries here, on real kernels, everything that the sandbox claims."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from sandbox import groups
from sandbox.hardening.seccomp import REFUSED
from sandbox.isolation import Isolation, isolation
from sandbox.kernel import FLOODED
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.processes import alive
from sandbox.result import ExecutionResult, ExecutionStatus, for_model
from sandbox.uids import BLOCK, Uids

LIMITS = Limits(
    shm_bytes=32 << 20,
    grace_s=1.0,
    memory_bytes=1 << 30,
    resident_bytes=1 << 29,
    file_bytes=16 << 20,
    folder_bytes=32 << 20,
    spares=2,
)
SECRET = "SANDBOX_CHECK_SECRET"
GONE_S = 3.0
GROWTH_BYTES = 64 << 20
START_S = 60.0
DAEMON = """
import os
if (child := os.fork()) == 0:
    os.setsid()
    if (daemon := os.fork()) == 0:
        os.execve('/bin/sleep', ['sleep', '300'], {})
    with open('pid', 'w') as file:
        file.write(str(daemon))
    os._exit(0)
os.waitpid(child, 0)
print(os.getpid(), open('pid').read())
"""
SYSCALLS = """
import ctypes
libc = ctypes.CDLL(None)
print([libc.unshare(0x10000000), libc.mount(b'x', b'.', b'tmpfs', 0, None), libc.ptrace(0, 0, 0, 0),
       libc.syscall(425, 8, ctypes.create_string_buffer(256))])
"""
BEYOND = """
import ctypes, fcntl, mmap
libc = ctypes.CDLL(None)
column = 0 if os.uname().machine == 'x86_64' else 1
def refused(action):
    try: return action() == -1
    except OSError: return True
def call(*numbers): return libc.syscall(numbers[column], 0, 0, 0, 0, 0)
pair = socket.socketpair()
file = open(os.__file__)
print(all(map(refused, {actions})))
"""
REACH = [
    "lambda: socket.socket(1).bind('s')",
    "lambda: pair[0].listen()",
    "lambda: socket.send_fds(pair[0], [b'x'], [0])",
    "lambda: fcntl.fcntl(file.fileno(), fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    "lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "lambda: fcntl.ioctl(file, 0x40086602, bytes(8))",
    *(
        f"lambda: call{numbers}"
        for name, numbers in REFUSED.items()
        if name.startswith(("shm", "msg", "sem", "mq_", "io_", "sync", "inotify"))
        and None not in numbers
    ),
]
HIDDEN = [
    "lambda: mmap.mmap(-1, 1 << 20)",
    "lambda: open('/dev/zero', 'r+b')",
    "lambda: os.memfd_create('x')",
    "lambda: fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)",
    "lambda: open('/proc/self/fdinfo/0')",
    "lambda: libc.prctl(4, 0, 0, 0, 0)",
    "lambda: libc.syscall((56, 220)[column], 0x8011, 0, 0, 0, 0)",
]
SURROUNDINGS = [
    "lambda: open('/proc/self/net/unix')",
    "lambda: open(f'/proc/self/task/{os.getpid()}/net/unix')",
    "lambda: open('/dev/ptmx', 'r+b', 0)",
    "lambda: os.symlink('x', '../shell')",
]
FLOOD = """
s = get_ipython().kernel.iopub_thread.socket
while True: s.send_multipart([b'x' * (1 << 20)] * 8)
"""
SOCKETS = """
import time
for _ in range(6):
    if os.fork() == 0:
        pairs = [socket.socketpair() for _ in range(100)]
        time.sleep(30)
time.sleep(30)
"""
WATCHES = """
import select, time
polls = [select.epoll() for _ in range(9)]
for end in [os.pipe()[0] for _ in range(20)]:
    for number in range(100, 250):
        os.dup2(end, number)
        for poll in polls: poll.register(number, 1)
time.sleep(30)
"""
NAMELESS = """
import time
files = []
for _ in range(9):
    files.append(open('file', 'wb', 0))
    files[-1].write(bytes(8 << 20))
    os.remove('file')
time.sleep(30)
"""
SHM = """
for number in range(99):
    with open(f'/dev/shm/{number}', 'wb') as file: file.write(bytes(4 << 20))
"""
TREE = """
import time
for _ in range(3):
    if os.fork() == 0:
        b = bytearray(b'x') * (250 << 20)
        time.sleep(30)
time.sleep(30)
"""
FOLDER = """
import time
for number in range(9): open(str(number), 'wb').write(bytes(8 << 20))
time.sleep(30)
"""
TOLD = {  # what is said after a cell that keeps the variables
    "import asyncio; await asyncio.sleep(30)": "variables kept",
    "+".join(["1"] * 6000): "RecursionError",
    "!python -c 'input()'": "EOFError",
    "input()": "input() is unavailable",
}
CLEAN = """
def inode(descriptor):
    try: return os.fstat(descriptor).st_ino
    except OSError: return 0
print({secret!r} in os.environ, oct(os.stat('.').st_mode), sys.stdin.read(),
      {inode} in map(inode, range(256)))
"""
SOLVER = f"""
import asyncio
from sandbox.pool import KernelPool
async def main():
    async with KernelPool() as pool, pool.lease() as sandbox:
        print((await sandbox.execute({DAEMON!r}, {START_S})).stdout, flush=True)
        await asyncio.sleep(300)
asyncio.run(main())
"""


@dataclass(frozen=True)
class Finding:
    """One line of the table; `holds` is None where nothing is claimed, and `note` says why."""

    guarantee: str
    mechanism: str
    holds: bool | None
    note: str = ""


@dataclass(frozen=True)
class _Claim:
    guarantee: str
    mechanism: str
    holds: Callable[[KernelPool], Awaitable[bool]]
    not_claimed: str = ""


async def check() -> list[Finding]:
    """Try every claim; takes some seconds."""
    findings = []
    os.environ[SECRET] = "secret"  # as a user's tokens would be
    try:
        async with KernelPool(LIMITS) as pool:
            for claim in _claims(isolation()):
                holds: bool | None = None
                if not claim.not_claimed:
                    try:
                        holds = await claim.holds(pool)
                    except Exception as error:  # whatever it was, the claim was not shown to hold
                        holds = False
                        claim = _Claim(claim.guarantee, claim.mechanism, claim.holds, repr(error))
                findings.append(Finding(claim.guarantee, claim.mechanism, holds, claim.not_claimed))
    finally:
        del os.environ[SECRET]
    return findings


def _claims(held: Isolation) -> list[_Claim]:
    def without(*layers: str) -> str:
        if any(layer in held.layers for layer in layers):
            return ""
        return f"{layers[-1]}: {held.missing.get(layers[-1], 'not here')}"

    owner = "a uid of its own, kill(-1)" if "uid" in held.layers else "subreaper, walk of /proc"
    tree = without("uid", "subreaper")
    counting = "watchdog" if groups.parent() is None else "control group, watchdog"
    linux = sys.platform == "linux"
    # A namespace counts for itself, but not what root's own user runs.
    bounded = "uid" in held.layers or (held.private_shm and os.geteuid() != 0)
    signals = "" if held.signals_stopped else without("uid")
    seccomp, landlock = without("seccomp"), without("landlock")
    shm = "" if held.private_shm else f"kernels have none here: {held.missing.get('shm', 'no')}"
    counted = "" if held.readable else "resident pages only: we may not look into them"
    grouped = "" if groups.parent() is None else "the control group counts them when they are full"
    sockets = counted or grouped
    hidden = seccomp or landlock or counted
    return [
        _Claim("G1 an answer in time", "absolute deadline, interrupt, kill", _in_time),
        _Claim("G2 bounded output", "counted in the kernel and again outside", _bounded),
        _Claim("G3 the solver is not harmed", "a kernel is another process", _unharmed),
        _Claim("G3 a flood of messages", "bounded while it is read", _flooded),
        _Claim("G4 a fresh process each time", "never reused", _fresh),
        _Claim("G5 no secrets, own folder, no stdin", "allow-list, 0700, /dev/null", _clean),
        _Claim("G6 nothing is left running", "killed at release", _swept),
        _Claim("G7 isolation is announced", "log, result, require", _announced),
        _Claim("H1 no network", "seccomp", _no_network, seccomp),
        _Claim("H1 no way around", "seccomp", _no_way_around, seccomp),
        _Claim("H1 no reach into others", "seccomp", _all_refused(REACH), seccomp),
        _Claim("H2 writes in its folder only", "Landlock", _no_writes, landlock),
        _Claim("H3 reads of libraries only", "Landlock", _no_reads, landlock),
        _Claim("H3 no ports, peers, terminals", "Landlock", _all_refused(SURROUNDINGS), landlock),
        _Claim("H4 no signals to the solver", "uid, Landlock scope", _no_signals, signals),
        _Claim("H4 uids of its own", "locks of root's", _own_uids, without("uid")),
        _Claim("H5 daemons are found", owner, _swept, tree),
        _Claim("H6 no orphans of a killed solver", "parent-death signal", _no_orphans, tree),
        _Claim("H6 no orphans of a killed zygote", "its parent", _no_orphans_of_the_zygote, tree),
        _Claim("limit on memory", "RLIMIT_AS", _memory, "" if linux else "macOS has none"),
        _Claim("limit on memory of all it started", counting, _stopped_for(TREE, "of memory")),
        _Claim("limit on what sockets hold", counting, _stopped_for(SOCKETS, "of memory"), sockets),
        _Claim("limit on watches", "watchdog", _stopped_for(WATCHES, "descriptors"), counted),
        _Claim("no memory that is not counted", "seccomp, Landlock", _all_refused(HIDDEN), hidden),
        _Claim("limit on /dev/shm", "a tmpfs of its own", _shm, shm),
        _Claim(
            "limit on processes", "RLIMIT_NPROC", _processes, "" if bounded else "watchdog only"
        ),
        _Claim("limit on a file", "RLIMIT_FSIZE", _file),
        _Claim("limit on the folder", "watchdog", _stopped_for(FOLDER, "of files")),
        _Claim("limit on deleted files", "watchdog", _stopped_for(NAMELESS, "of files"), counted),
        _Claim("a model is told what happened", "in words", _told),
    ]


async def _run(pool: KernelPool, code: str, timeout_s: float = 20.0) -> ExecutionResult:
    async with pool.lease() as sandbox:
        await sandbox.execute("import os, sys, socket", START_S)
        return await sandbox.execute(code, timeout_s)


async def _in_time(pool: KernelPool) -> bool:
    kept = await _run(pool, "while True: pass", 1.0)
    killed = await _run(pool, "sum(range(10**15))", 1.0)
    most = 1.0 + LIMITS.grace_s + 1.0
    statuses = (kept.status, killed.status)
    wanted = (ExecutionStatus.TIMEOUT, ExecutionStatus.KILLED)
    return statuses == wanted and max(kept.duration_s, killed.duration_s) < most


async def _bounded(pool: KernelPool) -> bool:
    result = await _run(pool, "while True: print('flood' * 1000)")
    told = len(for_model(result, LIMITS).encode())
    return result.output_bytes <= LIMITS.accepted_bytes and told <= LIMITS.output_bytes + 200


async def _unharmed(pool: KernelPool) -> bool:
    result = await _run(pool, "import ctypes; ctypes.string_at(0)")
    return result.status is ExecutionStatus.DIED and (await _run(pool, "1 + 1")).stdout == "2\n"


async def _fresh(pool: KernelPool) -> bool:
    first = await _run(pool, "import builtins; builtins.poison = 1; os.getpid()")
    second = await _run(pool, "'poison' in dir(__builtins__), os.getpid()")
    return second.stdout.startswith("(False,") and first.stdout.strip() not in second.stdout


async def _clean(pool: KernelPool) -> bool:
    with tempfile.TemporaryFile() as ours:
        os.set_inheritable(ours.fileno(), True)
        inode = os.fstat(ours.fileno()).st_ino
        result = await _run(pool, CLEAN.format(secret=SECRET, inode=inode))
    return result.stdout == "False 0o40700  False\n"


async def _swept(pool: KernelPool) -> bool:
    pids = [int(pid) for pid in (await _run(pool, DAEMON)).stdout.split()]
    return len(pids) == 2 and await _gone(pids)


async def _announced(pool: KernelPool) -> bool:
    return pool.isolation == str(isolation())


async def _no_network(pool: KernelPool) -> bool:
    tcp = await _run(pool, "socket.create_connection(('127.0.0.1', 9), 1)")
    udp = await _run(pool, "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
    return all("[no network in this sandbox]" in for_model(result, LIMITS) for result in (tcp, udp))


async def _no_way_around(pool: KernelPool) -> bool:
    return (await _run(pool, SYSCALLS)).stdout == "[-1, -1, -1, -1]\n"


async def _no_writes(pool: KernelPool) -> bool:
    with _open_folder() as folder:
        result = await _run(pool, f"open({folder + '/file'!r}, 'w')")
        inside = await _run(pool, "open('file', 'w').write('x')")
        untouched = not _names(folder)
    return _refused(result) and untouched and inside.status is ExecutionStatus.OK


def _names(folder: str) -> set[str]:
    return {entry.name for entry in Path(folder).iterdir()}


async def _no_reads(pool: KernelPool) -> bool:
    names = ["/etc/passwd", __file__, f"/proc/{os.getpid()}/environ"]
    return all([_refused(await _run(pool, f"open({name!r}).read()")) for name in names])


async def _no_signals(pool: KernelPool) -> bool:
    return _refused(await _run(pool, f"os.kill({os.getpid()}, 0)"))


async def _no_orphans(pool: KernelPool) -> bool:
    with _solver() as (solver, pids):
        solver.kill()
        return len(pids) == 2 and await _gone(pids)


async def _no_orphans_of_the_zygote(pool: KernelPool) -> bool:
    with _solver() as (solver, pids):
        (keeper,) = solver.children()
        (zygote,) = keeper.children()
        zygote.kill()
        return len(pids) == 2 and await _gone(pids)


@contextlib.contextmanager
def _solver() -> Iterator[tuple[psutil.Process, list[int]]]:
    """Another solver, and the pids of its kernel and of a daemon."""
    process = subprocess.Popen(
        [sys.executable, "-c", SOLVER],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    try:
        with process.stdout as said:
            pids = [int(pid) for pid in said.readline().split()]
        yield psutil.Process(process.pid), pids
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _open_folder() -> Iterator[str]:
    """One that only Landlock keeps a kernel from writing to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield folder


async def _processes(pool: KernelPool) -> bool:
    code = "while True: os.posix_spawn('/bin/sleep', ['sleep', '99'], {})"
    return (await _run(pool, code)).error == "BlockingIOError"


async def _memory(pool: KernelPool) -> bool:
    result = await _run(pool, "b = bytearray(100 << 30)")
    return "[MemoryError: 1 GiB limit; variables kept.]" in for_model(result, LIMITS)


async def _flooded(pool: KernelPool) -> bool:
    """Stopped, while a neighbour is answered and the solver stays as large as it is."""
    async with pool.lease() as neighbour:
        await neighbour.execute("n = 0", START_S)
        before = _peak()
        attack = asyncio.ensure_future(_run(pool, FLOOD))
        while not attack.done():
            if (await neighbour.execute("n += 1", START_S)).status is not ExecutionStatus.OK:
                return False
        return (await attack).stopped == FLOODED and _peak() - before < GROWTH_BYTES


def _peak() -> int:
    """Most bytes that this process ever held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _all_refused(actions: list[str]) -> Callable[[KernelPool], Awaitable[bool]]:
    async def refused(pool: KernelPool) -> bool:
        code = BEYOND.replace("{actions}", f"[{', '.join(actions)}]")
        return (await _run(pool, code)).stdout == "True\n"

    return refused


async def _own_uids(pool: KernelPool) -> bool:
    uid = int((await _run(pool, "os.getuid()")).stdout)
    others = Uids()
    try:
        return uid not in range(others.take(), others.take() + BLOCK) and uid != os.getuid()
    finally:
        others.close()


def _stopped_for(code: str, reason: str) -> Callable[[KernelPool], Awaitable[bool]]:
    async def stopped(pool: KernelPool) -> bool:
        result = await _run(pool, code)
        # A control group may end it before the watchdog does.
        return result.stopped.endswith(reason) or result.status is ExecutionStatus.DIED

    return stopped


async def _shm(pool: KernelPool) -> bool:
    full = (await _run(pool, SHM)).error == "OSError"
    return full and "0" not in _names("/dev/shm")


async def _file(pool: KernelPool) -> bool:
    code = "with open('f', 'wb') as f:\n    while True: f.write(bytes(1 << 20))"
    return (await _run(pool, code)).error == "OSError"


async def _told(pool: KernelPool) -> bool:
    async with pool.lease() as sandbox:
        await sandbox.execute("x = 7", START_S)
        for code, words in TOLD.items():
            if words not in for_model(await sandbox.execute(code, 2.0), LIMITS):
                return False
        return (await sandbox.execute("x", START_S)).stdout == "7\n"


def _refused(result: ExecutionResult) -> bool:
    return result.status is ExecutionStatus.ERROR and result.error == "PermissionError"


async def _gone(pids: list[int]) -> bool:
    deadline = asyncio.get_running_loop().time() + GONE_S
    while True:
        running = []
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                running += [pid] if alive(psutil.Process(pid)) else []
        if not running or asyncio.get_running_loop().time() > deadline:
            return not running
        await asyncio.sleep(0.05)
