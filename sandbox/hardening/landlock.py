"""Landlock by raw system calls: which files this process and all it starts may read and write.

See https://docs.kernel.org/userspace-api/landlock.html. Only the calling thread is restricted, so
this comes before any other thread is started.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from sandbox.hardening.syscalls import PR_SET_NO_NEW_PRIVS, checked, libc, prctl

NR_CREATE_RULESET, NR_ADD_RULE, NR_RESTRICT_SELF = 444, 445, 446  # the same everywhere
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
ABI_1 = (1 << 13) - 1
READ = EXECUTE | READ_FILE | READ_DIR
OF_A_FILE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
MAKE_DEVICES = 1 << 6 | 1 << 11  # character and block devices
FIRST_WITH_REFER, FIRST_WITH_TRUNCATE, FIRST_WITH_IOCTL, FIRST_WITH_SCOPES = 2, 3, 5, 6


def abi() -> int:
    """The version of Landlock that the kernel offers; 0 where there is none."""
    version = libc().syscall(
        ctypes.c_long(NR_CREATE_RULESET), None, ctypes.c_size_t(0), CREATE_RULESET_VERSION
    )
    return max(0, int(version))


class Rules:
    """What may be read and written; nothing else may, once they are enforced.

    Where the kernel can, signals to processes that are not confined with this one, and abstract
    sockets of theirs, are out of reach too. Raises OSError.
    """

    def __init__(self) -> None:
        version = abi()
        handled = ABI_1
        handled |= REFER if version >= FIRST_WITH_REFER else 0
        handled |= TRUNCATE if version >= FIRST_WITH_TRUNCATE else 0
        handled |= IOCTL_DEV if version >= FIRST_WITH_IOCTL else 0
        scoped = SCOPE_SIGNAL | SCOPE_ABSTRACT_UNIX_SOCKET if version >= FIRST_WITH_SCOPES else 0
        attributes = (ctypes.c_uint64 * 3)(handled, 0, scoped)
        self._handled = handled
        self._ruleset = checked(
            libc().syscall(
                ctypes.c_long(NR_CREATE_RULESET),
                ctypes.byref(attributes),
                ctypes.c_size_t(ctypes.sizeof(attributes)),
                0,
            ),
            "landlock_create_ruleset",
        )

    def allow(self, paths: Iterable[Path], *, writing: bool = False) -> None:
        """Allow reading and running below these, or everything; those that do not exist are left out."""
        access = self._handled & ~MAKE_DEVICES if writing else READ & self._handled
        for path in paths:
            _allow(self._ruleset, path, access)

    def enforce(self) -> None:
        """Put this thread, and all it starts, under the rules."""
        try:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            number = ctypes.c_long(NR_RESTRICT_SELF)
            checked(libc().syscall(number, self._ruleset, 0), "landlock_restrict_self")
        finally:
            os.close(self._ruleset)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            access &= OF_A_FILE
        rule = _PathBeneath(access, beneath)
        checked(
            libc().syscall(
                ctypes.c_long(NR_ADD_RULE), ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0
            ),
            f"landlock_add_rule {path}",
        )
    finally:
        os.close(beneath)
