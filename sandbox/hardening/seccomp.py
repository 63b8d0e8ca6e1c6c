"""A seccomp filter by raw BPF: no network, and none of the calls that reach around the other layers.

AF_UNIX stays, for pairs and for what the kernel itself listens on, but `connect` is refused: system
services (a resolver, a session bus, a container daemon) listen on paths that Landlock cannot hide.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator

from sandbox.hardening.syscalls import PR_SET_NO_NEW_PRIVS, checked, libc, prctl

# Refused whatever the arguments: x86_64, aarch64. None: there is no such call there.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    "connect": (42, 203),
    "bind": (49, 200),  # what a kernel listens on listens before
    "listen": (50, 201),
    # Descriptors on their way between sockets belong to no process that could be looked at.
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # Talk to the kernel past this filter, or reach into other processes.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "statmount": (457, 457),
    "listmount": (458, 458),
    # Files without a path, and memory that no process owns.
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "inotify_init": (253, None),  # a user may have a few
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
    "sendfile": (40, 71),
    # Rules and filters of one's own, of which there is no end.
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "seccomp": (317, 277),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    # What users share by number or name, whoever of theirs made it.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # The pace of other processes of the same user.
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # The machine.
    "sync": (162, 81),
    "syncfs": (306, 267),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "lookup_dcookie": (212, 18),
}
# What Landlock leaves to the owner of a file. Without a uid of its own a kernel is the owner of all
# that is the solver's, so it may not change its own files in these ways either.
OF_OWNERS: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
# Allowed for the caller itself (argument 0), refused for another process.
OWN_ONLY: dict[str, tuple[int | None, int | None]] = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
# Does nothing and says that it did: libzmq aborts when a new thread's own id is refused.
IGNORED = ((144, 119), (142, 118))  # sched_setscheduler, sched_setparam
# prctl: the parent's death signal, being unreadable for who counts memory, being a reaper of orphans,
# filters.
PRCTLS = (1, 4, 36, 22)
PRCTL = (157, 167)
SOCKET, SOCKETPAIR, CLONE, IOCTL, FCNTL = (41, 198), (53, 199), (56, 220), (16, 29), (72, 25)
CLONE3 = 435
MMAP = (9, 222)
SHARED_AND_ANONYMOUS = 0x21  # such pages stay when they are not mapped, and nobody counts them
HUGE_PAGES = 0x40000  # nor these, which the machine has a few of
NEW_NAMESPACES = 0x7E020000  # mount, cgroup, uts, ipc, user, pid, net
CLONE_PARENT = 0x8000  # a child of our parent's, which nobody would count as ours
# Without being a thread: what it locks by our descriptors stays locked when it ends, by nobody.
CLONE_FILES, CLONE_THREAD = 0x400, 0x10000
# Not on this list is what acts on files as their owner, on others' terminals and on devices:
# terminal attributes, size and group, bytes to read, flags of a descriptor, a copy of a file.
IOCTLS = (
    *(0x5401, 0x5402, 0x5403, 0x5404, 0x540F, 0x5410, 0x5413, 0x541B, 0x5421),
    *(0x5450, 0x5451, 0x40049409),
)
# fcntl: signals to a process, by the number of which or whenever a file changes; leases, for which
# others that open the file wait; the size of a pipe; locks that belong to no process.
FCNTLS = (8, 10, 15, 1024, 1026, 1031, 37, 38)
SOCK_STREAM, SOCK_KIND = 1, 0xF
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
X32 = 0x40000000  # calls of another table, by the same architecture

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, MASK, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
NR_SECCOMP = {"x86_64": 317, "aarch64": 277}
SET_MODE_FILTER, FLAG_TSYNC = 1, 1
PR_GET_SECCOMP = 21

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def available() -> bool:
    """Whether the kernel and this architecture have what `install` needs."""
    if os.uname().machine not in ARCHITECTURES:
        return False
    try:
        return prctl(PR_GET_SECCOMP) >= 0
    except OSError:
        return False


def install(*, as_owner: bool) -> None:
    """Put every thread of this process, and all it starts, under the filter. Raises OSError.

    `as_owner`: the kernel runs as the user whose files are to be safe from it.
    """
    machine = os.uname().machine
    steps = program(*ARCHITECTURES[machine], as_owner=as_owner)
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    prctl(PR_SET_NO_NEW_PRIVS, 1)
    filters = Program(len(code) // 8, code)
    number = ctypes.c_long(NR_SECCOMP[machine])
    failed = libc().syscall(number, SET_MODE_FILTER, FLAG_TSYNC, ctypes.byref(filters))
    checked(failed, "seccomp")
    if failed:  # the id of a thread that could not be brought under it
        raise OSError(errno.EPERM, f"seccomp: thread {failed} stays outside")


def program(column: int, architecture: int, *, as_owner: bool) -> list[Instruction]:
    """The filter for one architecture; what nothing refuses is allowed."""
    steps: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, FAIL | errno.ENOSYS),
    ]
    for numbers in (REFUSED | OF_OWNERS if as_owner else REFUSED).values():
        if (number := numbers[column]) is not None:
            steps += _when(number, [(RETURN, 0, 0, FAIL | errno.EPERM)])
    for pair in IGNORED:
        steps += _when(pair[column], [(RETURN, 0, 0, FAIL)])
    # The C library then uses `clone`, whose flags can be seen from here.
    steps += _when(CLONE3, [(RETURN, 0, 0, FAIL | errno.ENOSYS)])
    flags = NEW_NAMESPACES | CLONE_PARENT
    steps += _when(
        CLONE[column],
        [
            *_load(0),
            (JUMP_ANY_BIT, 0, 1, flags),
            *_refuse(),
            (MASK, 0, 0, CLONE_FILES | CLONE_THREAD),
            (JUMP_EQUAL, 0, 1, CLONE_FILES),
            *_refuse(),
        ],
    )
    for numbers in OWN_ONLY.values():
        if (number := numbers[column]) is not None:
            steps += _when(number, [*_load(0), (JUMP_EQUAL, 1, 0, 0), *_refuse()])
    for option in PRCTLS:
        steps += _when(PRCTL[column], [*_load(0), (JUMP_EQUAL, 0, 1, option), *_refuse()])
    for command in FCNTLS:
        steps += _when(FCNTL[column], [*_load(1), (JUMP_EQUAL, 0, 1, command), *_refuse()])
    requests = [(JUMP_EQUAL, len(IOCTLS) - at, 0, one) for at, one in enumerate(IOCTLS)]
    unknown = (RETURN, 0, 0, FAIL | errno.ENOTTY)  # as from a file that does not know the request
    steps += _when(IOCTL[column], [*_load(1), *requests, unknown])
    steps += _when(
        MMAP[column],
        [
            *_load(3),
            (JUMP_ANY_BIT, 0, 1, HUGE_PAGES),
            *_refuse(),
            (MASK, 0, 0, SHARED_AND_ANONYMOUS),
            (JUMP_EQUAL, 0, 1, SHARED_AND_ANONYMOUS),
            *_refuse(),
        ],
    )
    for number in (SOCKET[column], SOCKETPAIR[column]):
        # Datagrams can be addressed without a connect.
        steps += _when(
            number,
            [
                *_load(0),
                (JUMP_EQUAL, 1, 0, socket.AF_UNIX),
                (RETURN, 0, 0, FAIL | errno.EAFNOSUPPORT),
                *_load(1),
                (MASK, 0, 0, SOCK_KIND),
                (JUMP_EQUAL, 1, 0, SOCK_STREAM),
                *_refuse(),
            ],
        )
    return [*steps, (RETURN, 0, 0, ALLOW)]


def _load(argument: int) -> Iterator[Instruction]:
    yield LOAD, 0, 0, ARGUMENTS_AT + 8 * argument  # its lower half; both machines are little-endian


def _refuse() -> Iterator[Instruction]:
    yield RETURN, 0, 0, FAIL | errno.EPERM


def _when(number: int, steps: list[Instruction]) -> list[Instruction]:
    """Run `steps` for one call; when they do not return, go on with the call's number again."""
    return [(JUMP_EQUAL, 0, len(steps) + 1, number), *steps, (LOAD, 0, 0, NUMBER_AT)]
