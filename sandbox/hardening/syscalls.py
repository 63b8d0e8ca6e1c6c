"""The few system calls and constants that Python has no name for."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN = 2, 21
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 1 << 14, 1 << 18
_CAPABILITY_VERSION_3 = 0x20080522
_NR_CAPSET = {"x86_64": 126, "aarch64": 91}


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """`result`, or an OSError where it says that the call failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """One prctl; raises OSError."""
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return checked(libc().prctl(option, *padded), f"prctl {option}")


def keep_capabilities(mask: int) -> None:
    """Hold exactly the capabilities of `mask`, below 32, also across exec."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    number = ctypes.c_long(_NR_CAPSET[os.uname().machine])
    checked(libc().syscall(number, ctypes.byref(header), ctypes.byref(data)), "capset")
    for bit in range(32):
        if mask >> bit & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit)


def can_mount() -> bool:
    """Whether this process may mount file systems: root may not in most containers."""
    status = Path("/proc/self/status").read_text()
    held = int(status.split("CapEff:")[1].split()[0], 16)
    return bool(held >> CAP_SYS_ADMIN & 1)


def mount_private_shm(size: int) -> None:
    """Give this process, and all it starts, a /dev/shm of its own of at most `size` bytes.

    Who may not mount gets the right to in a user namespace, where it stays the user that it is; it
    holds every capability in there, and has to drop them.
    """
    user, group = os.geteuid(), os.getegid()
    alone = not can_mount()
    checked(libc().unshare(CLONE_NEWNS | (CLONE_NEWUSER if alone else 0)), "unshare")
    if alone:
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            Path("/proc/self", name).write_text(line)
    checked(libc().mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount /")
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    options = f"size={size},nr_inodes=4096,mode=1777".encode()
    checked(libc().mount(b"shm", b"/dev/shm", b"tmpfs", flags, options), "mount /dev/shm")
