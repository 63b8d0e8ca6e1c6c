"""How each claim of the sandbox is tried on real kernels: a trial takes a pool and says if it holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil

from sandbox.hardening.seccomp import REFUSED
from sandbox.isolation import isolation
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


async def _run(pool: KernelPool, code: str, timeout_s: float = 20.0) -> ExecutionResult:
    async with pool.lease() as sandbox:
        await sandbox.execute("import os, sys, socket", START_S)
        return await sandbox.execute(code, timeout_s)


async def in_time(pool: KernelPool) -> bool:
    """A cell past its time is answered, whether it can be interrupted or must be killed."""
    kept = await _run(pool, "while True: pass", 1.0)
    killed = await _run(pool, "sum(range(10**15))", 1.0)
    most = 1.0 + LIMITS.grace_s + 1.0
    statuses = (kept.status, killed.status)
    wanted = (ExecutionStatus.TIMEOUT, ExecutionStatus.KILLED)
    return statuses == wanted and max(kept.duration_s, killed.duration_s) < most


async def bounded(pool: KernelPool) -> bool:
    """A cell that never stops printing: what is kept and told of it stays small."""
    result = await _run(pool, "while True: print('flood' * 1000)")
    told = len(for_model(result, LIMITS).encode())
    return result.output_bytes <= LIMITS.accepted_bytes and told <= LIMITS.output_bytes + 200


async def unharmed(pool: KernelPool) -> bool:
    """A cell that crashes its process: the solver goes on, and the next cell runs."""
    result = await _run(pool, "import ctypes; ctypes.string_at(0)")
    return result.status is ExecutionStatus.DIED and (await _run(pool, "1 + 1")).stdout == "2\n"


async def fresh(pool: KernelPool) -> bool:
    """Whoever leases a kernel finds nothing of the one before."""
    first = await _run(pool, "import builtins; builtins.poison = 1; os.getpid()")
    second = await _run(pool, "'poison' in dir(__builtins__), os.getpid()")
    return second.stdout.startswith("(False,") and first.stdout.strip() not in second.stdout


async def clean(pool: KernelPool) -> bool:
    """A kernel has no secret of the environment, no open file of ours, no input, and a folder of its own."""
    with tempfile.TemporaryFile() as ours:
        os.set_inheritable(ours.fileno(), True)
        inode = os.fstat(ours.fileno()).st_ino
        result = await _run(pool, CLEAN.format(secret=SECRET, inode=inode))
    return result.stdout == "False 0o40700  False\n"


async def swept(pool: KernelPool) -> bool:
    """A daemon of a kernel's is gone once the kernel is."""
    pids = [int(pid) for pid in (await _run(pool, DAEMON)).stdout.split()]
    return len(pids) == 2 and await _gone(pids)


async def announced(pool: KernelPool) -> bool:
    """The pool names the layers that hold."""
    return pool.isolation == str(isolation())


async def no_network(pool: KernelPool) -> bool:
    """Neither TCP nor UDP, and the model is told why."""
    tcp = await _run(pool, "socket.create_connection(('127.0.0.1', 9), 1)")
    udp = await _run(pool, "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
    return all("[no network in this sandbox]" in for_model(result, LIMITS) for result in (tcp, udp))


async def no_way_around(pool: KernelPool) -> bool:
    """System calls that would lead around the other layers are refused."""
    return (await _run(pool, SYSCALLS)).stdout == "[-1, -1, -1, -1]\n"


async def no_writes(pool: KernelPool) -> bool:
    """A cell writes in its own folder and in no other, even one open to all."""
    with _open_folder() as folder:
        result = await _run(pool, f"open({folder + '/file'!r}, 'w')")
        inside = await _run(pool, "open('file', 'w').write('x')")
        untouched = not _names(folder)
    return _refused(result) and untouched and inside.status is ExecutionStatus.OK


def _names(folder: str) -> set[str]:
    return {entry.name for entry in Path(folder).iterdir()}


async def no_reads(pool: KernelPool) -> bool:
    """A cell reads no file of the users', of ours, or about the solver."""
    names = ["/etc/passwd", __file__, f"/proc/{os.getpid()}/environ"]
    return all([_refused(await _run(pool, f"open({name!r}).read()")) for name in names])


async def no_signals(pool: KernelPool) -> bool:
    """A cell cannot send the solver a signal."""
    return _refused(await _run(pool, f"os.kill({os.getpid()}, 0)"))


async def no_orphans(pool: KernelPool) -> bool:
    """Kernels of a solver that is killed end, their daemons too."""
    with _solver() as (solver, pids):
        solver.kill()
        return len(pids) == 2 and await _gone(pids)


async def no_orphans_of_the_zygote(pool: KernelPool) -> bool:
    """Kernels of a zygote that is killed end, their daemons too."""
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


async def processes(pool: KernelPool) -> bool:
    """A cell that starts processes without end is refused more."""
    code = "while True: os.posix_spawn('/bin/sleep', ['sleep', '99'], {})"
    return (await _run(pool, code)).error == "BlockingIOError"


async def memory(pool: KernelPool) -> bool:
    """A cell that asks for more memory than it may is told so, and keeps its variables."""
    result = await _run(pool, "b = bytearray(100 << 30)")
    return "[MemoryError: 1 GiB limit; variables kept.]" in for_model(result, LIMITS)


async def flooded(pool: KernelPool) -> bool:
    """A kernel that floods is stopped; a neighbour is answered and the solver does not grow."""
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


def all_refused(actions: list[str]) -> Callable[[KernelPool], Awaitable[bool]]:
    """A trial: each of these calls is refused."""

    async def refused(pool: KernelPool) -> bool:
        code = BEYOND.replace("{actions}", f"[{', '.join(actions)}]")
        return (await _run(pool, code)).stdout == "True\n"

    return refused


async def own_uids(pool: KernelPool) -> bool:
    """Another pool takes other user ids, and none is the solver's."""
    uid = int((await _run(pool, "os.getuid()")).stdout)
    others = Uids()
    try:
        return uid not in range(others.take(), others.take() + BLOCK) and uid != os.getuid()
    finally:
        others.close()


def stopped_for(code: str, reason: str) -> Callable[[KernelPool], Awaitable[bool]]:
    """A trial: a cell of this code has its kernel stopped, for a reason that ends so."""

    async def stopped(pool: KernelPool) -> bool:
        result = await _run(pool, code)
        # A control group may end it before the watchdog does.
        return result.stopped.endswith(reason) or result.status is ExecutionStatus.DIED

    return stopped


async def shm(pool: KernelPool) -> bool:
    """/dev/shm is full at its bound, and a kernel's files do not appear in ours."""
    full = (await _run(pool, SHM)).error == "OSError"
    return full and "0" not in _names("/dev/shm")


async def file(pool: KernelPool) -> bool:
    """A file does not grow past its bound."""
    code = "with open('f', 'wb') as f:\n    while True: f.write(bytes(1 << 20))"
    return (await _run(pool, code)).error == "OSError"


async def told(pool: KernelPool) -> bool:
    """After cells that went wrong a model is told what happened, and its variables are there."""
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
