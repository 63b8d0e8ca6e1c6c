"""What is counted of a process: all that it holds, also where no page of its own shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.usage import (
    ANCESTOR_BYTES,
    AREA_BYTES,
    LOCK_BYTES,
    PIPE_BYTES,
    PROC_FILE_BYTES,
    SOCKET_BYTES,
    TOO_MUCH,
    memory,
    ran,
    trees,
    watches,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

CHILD = """
import ctypes, fcntl, os, socket, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 5]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
held = []
print(flush=True)
sys.stdin.readline()
{hold}
print(flush=True)
sys.stdin.readline()
"""
FIFOS = """
for _ in range(200):
    os.mkfifo("f")
    held.append(os.open("f", os.O_RDWR))
    os.remove("f")
"""
AREAS = """
start = libc.mmap(None, 40000 << 12, 0, 0x22, -1, 0)
for page in range(0, 40000, 2):
    libc.mprotect(start + (page << 12), 4096, 1)
"""
TABLES = """
start = libc.mmap(None, 1 << 32, 1, 0x4022, -1, 0)
for address in range(start, start + (1 << 32), 2 << 20):
    ctypes.string_at(address, 1)
"""
LOCKS = """
held.append(open("l", "w"))
for number in range(10_000, 0, -1):
    fcntl.lockf(held[0], fcntl.LOCK_EX, 1, 2 * number)
"""
SOCKETS = "held += [end for _ in range(50) for end in socket.socketpair()]"


@pytest.mark.parametrize(
    ("hold", "least"),
    [
        (FIFOS, 200 * PIPE_BYTES),
        ("held += [os.pipe() for _ in range(200)]", 200 * PIPE_BYTES),
        (SOCKETS, 100 * SOCKET_BYTES),
        (AREAS, 39_000 * (AREA_BYTES + ANCESTOR_BYTES)),
        (TABLES, 2000 * 4096),
        (LOCKS, 10_000 * LOCK_BYTES),
        ("held += [open('/proc/self/maps', 'rb', 0) for _ in range(200)]", 200 * PROC_FILE_BYTES),
        ("held.append(bytearray(b'x') * (100 << 20))", 100 << 20),
    ],
    ids=["fifos", "pipes", "sockets", "areas", "page tables", "locks", "texts of /proc", "pages"],
)
def test_all_that_a_process_holds_is_counted(tmp_path: Path, hold: str, least: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(hold=hold)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as child:
        assert child.stdin
        assert child.stdout

        def held() -> int:
            assert child.stdout
            child.stdout.readline()
            return memory(trees([child.pid])[child.pid], TOO_MUCH, readable=True)

        before = held()
        child.stdin.write("\n")
        grown = held() - before
        child.stdin.write("\n")
    # Pages that others map too weigh more or less as these come and go.
    assert abs(grown - least) < least / 2


def test_what_descends_from_a_process_is_its_own() -> None:
    code = "import os, sys\nif os.fork(): os.wait()\nelse: print(flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        first, second = trees([child.pid])[child.pid]
        assert (first.pid, second.parent) == (child.pid, child.pid)
        assert min(first.resident, second.resident) > 1 << 20
        child.stdin.write("\n")


WATCHES = """
import os, select, sys
end = os.pipe()[0]
polls = [select.epoll() for _ in range(3)]
for poll in polls:
    for number in range(100, 110): os.dup2(end, number); poll.register(number)
print(flush=True)
sys.stdin.readline()
print(flush=True)
sys.stdin.readline()
"""


def test_what_is_watched_is_counted_and_what_ran_is_seen() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WATCHES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        tree = trees([child.pid])[child.pid]
        assert watches(tree, 100) == 30
        while (before := ran(tree)) != ran(tree):  # until it waits
            pass
        assert ran(tree) == before
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        assert ran(tree) != before
        child.stdin.write("\n")
