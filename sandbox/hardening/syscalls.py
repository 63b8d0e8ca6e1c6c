"""The few system calls and constants that Python has no name for."""

from __future__ import annotations

import ctypes
import functools
import os

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_READ_SEARCH = 2
CLONE_NEWNS = 0x00020000
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


def mount_private_shm(size: int) -> None:
    """Give this process a /dev/shm of its own that holds at most `size` bytes."""
    checked(libc().unshare(CLONE_NEWNS), "unshare")
    checked(libc().mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount /")
    options = f"size={size},nr_inodes=4096,mode=1777".encode()
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    checked(libc().mount(b"tmpfs", b"/dev/shm", b"tmpfs", flags, options), "mount /dev/shm")
