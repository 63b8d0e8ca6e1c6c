"""Cells that do harm: what each is to end as, and what the model is to be told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from textwrap import indent

OK, ERROR, TIMEOUT, KILLED, DIED = "ok", "error", "timeout", "killed", "died"
SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if (result := libc.syscall(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""
FORK = "import os, time\nif os.fork() == 0:\n"


@dataclass(frozen=True)
class Case:
    """`code` may name {solver}, {zygote}, {kernel} (pids), {input}, {peer} (folder of {kernel}, another).

    `ends` are the outcomes allowed, `told` must be in the text for the model. Whatever is not killed
    or died keeps its state. Before it may end by itself it has `timeout_s`.
    """

    name: str
    code: str
    ends: tuple[str, ...]
    told: str = ""
    timeout_s: float = 10.0
    needs: str = ""  # a layer of isolation, or shm


def _loop(name: str, code: str, told: str = "variables kept") -> Case:
    return Case(name, code, (TIMEOUT,), told, timeout_s=0.7)


def _stuck(name: str, code: str, *others: str) -> Case:
    return Case(name, code, (KILLED, *others), timeout_s=0.7)


def _denied(name: str, code: str, told: str = "PermissionError", needs: str = "landlock") -> Case:
    return Case(name, code, (ERROR,), told, needs=needs)


def _refused(name: str, call: str, told: str = "PermissionError") -> Case:
    return Case(name, f"{SYSCALL}{call}", (ERROR,), told, needs="seccomp")


TIMEOUTS = [
    _loop("loop_forever", "while True: pass"),
    _loop("sleep_forever", "import time; time.sleep(1000)"),
    _loop("bigint_pow", "pow(3, 10**9)"),
    Case(
        "regex_backtrack",
        "import re; re.match('(a+)+$', 'a' * 40 + 'b')",
        (TIMEOUT, KILLED),
        timeout_s=0.7,
    ),
    _loop("sympy_factor_hard", "import sympy; sympy.factorint(10**120 + 7)"),
    _loop("subprocess_sleep", "import subprocess; subprocess.run(['sleep', '1000'])"),
    _loop("print_tiny_flood", "import time\nwhile True: print(1, flush=True); time.sleep(1e-3)"),
    _loop("repr_bomb", "class A:\n    def __repr__(self):\n        while True: pass\nA()"),
    _loop("shell_sleep", "!sleep 1000"),
    _loop("lock_forever", "import threading; l = threading.Lock(); l.acquire(); l.acquire()"),
]
STUCK = [
    _stuck(
        "swallow_interrupt",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        TIMEOUT,  # when the second interrupt hits the handler
    ),
    _stuck(
        "sigint_ignored",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    ),
    _stuck("c_loop_no_signals", "sum(range(10**15))"),
    _stuck(
        "numpy_svd_long",
        "import numpy as n\nstack = n.broadcast_to(n.random.rand(300, 300), (10**5, 300, 300))\n"
        "n.linalg.svd(stack, compute_uv=False)",
        TIMEOUT,
    ),
    _stuck("stop_self", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"),
    _stuck(
        "fd1_gil_deadlock",
        "import ctypes\nwhile True: ctypes.PyDLL(None).write(1, b'x' * 65536, 65536)",
        ERROR,
        TIMEOUT,
    ),
    _stuck("async_loop", "import asyncio\nwhile True: await asyncio.sleep(0)", TIMEOUT),
    _stuck(
        "excepthook_bomb",
        "def bomb(*_, **__):\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass\n"
        "get_ipython().showtraceback = bomb\nwhile True: pass",
    ),
    _stuck("stop_iopub", "get_ipython().kernel.iopub_thread.stop()", DIED),
    _stuck(
        "monkeypatch_builtins",
        "import builtins\nfor n in ('len', 'isinstance', 'getattr', 'dict'): setattr(builtins, n, None)",
        DIED,
    ),
    _stuck("exit_swallowed", "import time\nwhile True:\n    try: time.sleep(99)\n    except: pass"),
    _stuck(
        "mask_all_signals",
        "import signal as s; s.pthread_sigmask(0, s.valid_signals())\nwhile 1: 1",
        TIMEOUT,  # another thread takes the signal
    ),
]
DEATHS = [
    Case("segv_ctypes", "import ctypes; ctypes.string_at(0)", (DIED,), "kernel died"),
    Case("os_exit", "import os; os._exit(0)", (DIED,), "kernel died"),
    Case("kill_self_9", "import os; os.kill(os.getpid(), 9)", (DIED,), "kernel died"),
    Case("exit_builtin", "exit()", (DIED,), "kernel died"),
    Case("sys_exit_group", "import os; os.killpg(0, 15)", (DIED,), "kernel died"),
    Case("close_fds", "import os; os.closerange(0, 256)", (DIED, KILLED), timeout_s=0.7),
    Case(
        "close_output", "get_ipython().kernel.iopub_thread.socket.close(0)", (DIED,), "kernel died"
    ),
    Case("exec_other", "import os; os.execv('/bin/true', ['true'])", (DIED,), "kernel died"),
    Case("abort", "import os; os.abort()", (DIED,), "kernel died"),
    Case("atexit_hang", "import atexit, time; atexit.register(time.sleep, 99)\nexit()", (DIED,)),
]
MEMORY = "[MemoryError: 1 GiB limit; variables kept.]"
ERRORS = [
    Case("alloc_100gb_once", "b = bytearray(100 << 30)", (ERROR,), MEMORY),
    Case("alloc_numpy", "import numpy as n; n.ones((10**6, 10**6))", (ERROR,), MEMORY),
    Case("alloc_creep", "a = []\nwhile True: a.append(bytearray(50 << 20))", (ERROR,), MEMORY),
    Case("c_list_range", "list(range(10**11))", (ERROR,), MEMORY),
    Case("recursion_py", "def f(): f()\nf()", (ERROR,), "RecursionError"),
    Case("huge_int_str", "print(10**5000)", (OK,), "1000"),
    Case("input_call", "input('?')", (ERROR,), "[input() is unavailable; assign the value.]"),
    Case("getpass_call", "import getpass; getpass.getpass()", (ERROR,), "[input() is unavailable"),
    Case(
        "fill_disk",
        "with open('big', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
        (ERROR,),
        "File too large",
    ),
    Case(
        "fd_exhaust", "fs = []\nwhile True: fs.append(open('/dev/null'))", (ERROR,), "Too many open"
    ),
    Case("exception_bomb", "raise ValueError('x' * 10**7)", (ERROR,), "ValueError"),
    Case(
        "error_that_errs",
        "class E(Exception):\n    def __str__(self): raise E\nraise E",
        (ERROR,),
        "cannot say what it is",
    ),
]
NO_NETWORK = "[no network in this sandbox]"
CONNECT = "import socket; socket.create_connection(('1.1.1.1', 53), 3)"
DENIED = [
    _denied("kill_parent", "import os; os.kill(os.getppid(), 9)"),
    _denied("kill_solver", "import os; os.kill({solver}, 9)"),
    _denied("stop_solver", "import os; os.kill({solver}, 19)"),
    _denied(
        "pidfd_kill", "import os, signal; signal.pidfd_send_signal(os.pidfd_open({solver}), 9)"
    ),
    _denied("parent_environ", "open(f'/proc/{zygote}/environ').read()"),
    _denied("solver_environ", "open(f'/proc/{solver}/environ').read()"),
    _denied("solver_memory", "open(f'/proc/{solver}/mem', 'r+b')"),
    _denied("read_input", "open('{input}').read()"),
    _denied(
        "read_solver_files",
        "import pathlib; pathlib.Path('{repository}/pyproject.toml').read_text()",
    ),
    _denied("list_root_home", "import os; os.listdir('/root')"),
    _denied("list_tmp", "import os; os.listdir('/tmp')"),
    _denied("read_shadow", "open('/etc/shadow')"),
    _denied("read_through_link", "import os; os.symlink('{input}', 'link'); open('link').read()"),
    _denied("read_through_root", "open('/proc/self/root{input}').read()"),
    _denied("hard_link", "import os; os.link('{input}', 'mine')", "Error"),
    _denied("write_outside", "open('/tmp/outside', 'w')"),
    _denied("write_library", "import os; open(os.__file__, 'a')"),
    _denied("delete_input", "import os; os.remove('{input}')"),
    _denied("truncate_input", "import os; os.truncate('{input}', 0)"),
    _denied("chmod_input", "import os; os.chmod('{input}', 0)"),
    _denied("chmod_library", "import os; f = open(os.__file__); os.fchmod(f.fileno(), 0)"),
    _denied("touch_input", "import os; os.utime('{input}', (0, 0))"),
    _denied("tag_input", "import os; os.setxattr('{input}', 'user.x', b'x')", "Error"),
    _denied("rename_input", "import os; os.rename('{input}', 'mine')", "Error"),
    _denied("read_peer", "import os; os.listdir('{peer}/work')"),
    _denied("read_peer_log", "open('{peer}/../zygote.log')"),
    _denied("device_node", "import os; os.mknod('disk', 0o60666, os.makedev(254, 0))"),
    _denied("tcp_connect", CONNECT, NO_NETWORK, "seccomp"),
    _denied("tcp_listen", "import socket; socket.create_server(('', 0))", NO_NETWORK, "seccomp"),
    _denied(
        "udp_dns",
        "import socket; socket.socket(2, 2).sendto(b'x', ('1.1.1.1', 53))",
        NO_NETWORK,
        "seccomp",
    ),
    _denied(
        "resolve", "import socket; socket.getaddrinfo('example.org', 80)", NO_NETWORK, "seccomp"
    ),
    _denied(
        "url_open",
        "from urllib.request import urlopen; urlopen('http://1.1.1.1')",
        NO_NETWORK,
        "seccomp",
    ),
    _denied("netlink", "import socket; socket.socket(16, 3, 0)", NO_NETWORK, "seccomp"),
    _denied(
        "unix_other_kernel",
        "import socket; socket.socket(1).connect('{peer}/shell')",
        needs="seccomp",
    ),
    _denied("unix_datagram", "import socket; socket.socket(1, 2)", needs="seccomp"),
    _refused("io_uring", "call(425, 8, ctypes.create_string_buffer(256))"),
    _refused(
        "unshare_userns",
        "libc.unshare(0x10000000) and call(272 if os.uname().machine == 'x86_64' else 97, 0x10000000)",
    ),
    _refused(
        "clone_userns",
        "call(56 if os.uname().machine == 'x86_64' else 220, 0x10000011, 0, 0, 0, 0)",
    ),
    _refused(
        "clone3", "call(435, ctypes.create_string_buffer(88), 88)", "Function not implemented"
    ),
    _refused(
        "ptrace_parent",
        "call(101 if os.uname().machine == 'x86_64' else 117, 16, os.getppid(), 0, 0)",
    ),
    _refused(
        "read_memory",
        "call(310 if os.uname().machine == 'x86_64' else 270, {solver}, 0, 0, 0, 0, 0)",
    ),
    _refused(
        "mount", "call(165 if os.uname().machine == 'x86_64' else 40, 0, b'/', b'tmpfs', 0, 0)"
    ),
    _refused(
        "outlive_parent", "if libc.prctl(1, 0, 0, 0, 0): raise OSError(ctypes.get_errno(), 'x')"
    ),
    _refused("chroot", "os.chroot('.')"),
    _refused("memfd", "os.memfd_create('x')"),
    _refused("open_by_handle", "call(304 if os.uname().machine == 'x86_64' else 265, -100, 0, 0)"),
    _refused(
        "sysv_memory", "call(29 if os.uname().machine == 'x86_64' else 194, 0, 1 << 20, 0o1666)"
    ),
    _refused("limits_of_solver", "import resource; resource.prlimit({solver}, 7, (0, 0))"),
    _refused("pace_of_solver", "os.setpriority(os.PRIO_PROCESS, {solver}, 19)"),
    _refused("pin_solver", "os.sched_setaffinity({solver}, [0])"),
    _refused(
        "type_into_terminal",
        "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",
        "Inappropriate ioctl",
    ),
    Case("become_root", "import os; os.setuid(0)", (ERROR,), "Error", needs="seccomp"),
]
CONTAINED = [
    Case("env_secrets", "import os; print(dict(os.environ))", (OK,)),
    Case("fork_bomb", "import os\nwhile True: os.fork()", (ERROR, TIMEOUT, KILLED), timeout_s=3),
    Case(
        "fork_sleepers",
        "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(99)",
        (ERROR,),
        "Resource temporarily unavailable",
    ),
    Case(
        "thread_bomb",
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        (ERROR,),
        "can't start new thread",
    ),
    Case(
        "daemon_double_fork",
        f"{FORK}    os.setsid()\n    if os.fork() == 0:\n        os.execv('/bin/sleep', ['sleep', '99'])\n"
        "    os._exit(0)\ntime.sleep(0.1)",
        (OK,),
    ),
    Case(
        "daemon_clean_environment",
        f"{FORK}    os.setsid()\n    if os.fork() == 0:\n"
        "        os.execve('/bin/sleep', ['sleep', '99'], {{}})\n    os._exit(0)\ntime.sleep(0.1)",
        (OK,),
    ),
    Case("kill_everything", "import os; os.kill(-1, 9)", (OK, DIED, ERROR)),
    Case(
        "bg_thread_prints",
        "import threading, time\ndef talk():\n    while True: print('tick'); time.sleep(0.01)\n"
        "threading.Thread(target=talk, daemon=True).start()",
        (OK,),
    ),
    Case("chdir_root", "import os; os.chdir('/')", (OK,)),
    Case(
        "mp_pool",
        "import multiprocessing as m\ndef f(n): return n * n\nwith m.Pool(2) as p: print(p.map(f, [3, 4]))",
        (OK,),
        "[9, 16]",
        needs="shm",
    ),
    Case("magics_shell", "!echo $((6 * 7))", (OK,), "42"),
    Case("magics_bash", "%%bash\necho $((6 * 7))", (OK,), "42"),
    Case("print_1gb", "while True: print('x' * 10**6)", (ERROR,), "[output cut at 1 MB;"),
    Case(
        "fd1_flood",
        "import os\nwhile True: os.write(1, b'x' * 4096)",
        (ERROR,),
        "[output cut at 1 MB;",
    ),
    Case("child_flood", "!yes", (ERROR,), "[output cut at 1 MB;"),
    Case("fork_returns", "import os\nos.fork()\nprint('x')", (OK,), "x"),
    Case(
        "fork_times_allocation",
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n"
        "        b = bytearray(b'x') * (400 << 20); time.sleep(99)\ntime.sleep(99)",
        (KILLED,),
        "more than 1 GiB of memory",
    ),
    Case(
        "shm_filled",
        "for i in range(99):\n    with open(f'/dev/shm/{{i}}', 'wb') as f: f.write(bytes(8 << 20))",
        (ERROR,),
        "No space left",
        needs="shm",
    ),
    Case(
        "many_small_files",
        "for i in range(10**6): open(str(i), 'w').close()",
        (KILLED,),
        "more than 32 MiB of files",
        timeout_s=60,
    ),
    Case(
        "files_without_name",
        "import os, time\nfs = []\nfor i in range(20):\n    f = open('x', 'wb'); os.remove('x')\n"
        "    f.write(bytes(8 << 20)); f.flush(); fs.append(f)\ntime.sleep(99)",
        (KILLED,),
        "more than 32 MiB of files",
        timeout_s=60,
    ),
    Case(
        "deep_folders",
        "import os, time\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\ntime.sleep(99)",
        (KILLED,),
        "of files",
        timeout_s=60,
    ),
    Case("symlink_in_cwd", "import os; os.symlink('/', 'all'); os.symlink('{input}', 'i')", (OK,)),
    Case("unreadable_folder", "import os; os.makedirs('a/b'); os.chmod('a', 0)", (OK, ERROR)),
    Case(
        "poison",
        "import sympy, builtins, sys; sympy.factor = None; sys.path.clear()",
        (OK, ERROR),
    ),
]
X86 = "os.uname().machine == 'x86_64'"


def _number(x86: int, arm: int) -> str:
    return f"{x86} if {X86} else {arm}"


MEMORY_HIDDEN = [
    _denied("shared_anonymous", "import mmap; mmap.mmap(-1, 900 << 20)", needs="seccomp"),
    _denied(
        "shared_zero_device", "import mmap; mmap.mmap(open('/dev/zero', 'r+b').fileno(), 1 << 20)"
    ),
    _denied(
        "descriptors_in_flight",
        "import socket\na, b = socket.socketpair()\nwhile True:\n"
        "    with open('f', 'wb') as f: socket.send_fds(a, [b'x'], [f.fileno()])",
        needs="seccomp",
    ),
    _refused(
        "unreadable_process", "if libc.prctl(4, 0, 0, 0, 0): raise OSError(ctypes.get_errno(), 'x')"
    ),
    _refused("sibling", f"call({_number(56, 220)}, 0x8000 | 17, 0, 0, 0, 0)"),
    _refused("sibling_thread_group", f"call({_number(56, 220)}, 0x8000 | 0x100 | 17, 0, 0, 0, 0)"),
    _refused("pages_in_pipes", f"call({_number(278, 75)}, 1, 0, 0, 0)"),
    _refused("file_in_pipes", f"call({_number(276, 77)}, 0, 1, 0, 0)"),
    _refused("large_pipes", "import fcntl; fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)"),
    _refused(
        "file_in_pipes_by_sending", "os.sendfile(os.pipe()[1], os.open(os.__file__, 0), 0, 4096)"
    ),
    _refused("secret_memory", "call(447, 0)"),
    _refused("huge_pages", "import mmap; mmap.mmap(-1, 2 << 20, flags=0x40022)"),
    _refused(
        "rules_without_end", "call(444, ctypes.create_string_buffer(b'\\xff' * 8, 24), 24, 0)"
    ),
    _refused("filters_without_end", f"call({_number(317, 277)}, 1, 0, 0)"),
    _refused(
        "filters_by_prctl", "if libc.prctl(22, 2, 0, 0, 0): raise OSError(ctypes.get_errno(), 'x')"
    ),
    _refused("locks_of_the_dead", f"call({_number(56, 220)}, 0x400 | 17, 0, 0, 0, 0)"),
    _denied("texts_of_open_files", "open('/proc/self/fdinfo/0')"),
    _refused("locks_of_nobody", "import fcntl; fcntl.fcntl(open('l', 'w'), 37, bytes(32))"),
    _refused(
        "timers",
        f"while True: call({_number(222, 107)}, 1, 0, ctypes.byref(ctypes.c_int()))",
        "Resource temporarily unavailable",
    ),
    Case(
        "fifos_filled",
        "import os, time\nfor p in range(22):\n    if os.fork() == 0:\n"
        "        if p < 2: b = bytearray(b'x') * (400 << 20); time.sleep(99)\n"
        "        for i in range(200):\n            os.mkfifo(f'{{p}}'); f = os.open(f'{{p}}', os.O_RDWR)\n"
        "            os.remove(f'{{p}}'); os.write(f, bytes(1 << 16))\n        break\ntime.sleep(99)",
        (KILLED,),
        "more than 1 GiB of memory",
        timeout_s=60,
    ),
    Case(
        "socket_buffers",
        "import os, socket, time\nfor _ in range(16):\n    if os.fork() == 0:\n"
        "        pairs = [socket.socketpair() for _ in range(100)]\n"
        "        for a, _ in pairs:\n            a.setblocking(False)\n"
        "            a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)\n"
        "            try:\n                while True: a.send(bytes(1 << 16))\n"
        "            except BlockingIOError: pass\n        time.sleep(99)\ntime.sleep(99)",
        (KILLED,),
        "more than 1 GiB of memory",
        timeout_s=60,
    ),
    Case(
        "leader_that_left_its_threads",
        "import os, time, threading, ctypes\nfor _ in range(6):\n    if os.fork() == 0:\n"
        "        def hold():\n            b = bytearray(b'x') * (400 << 20); time.sleep(99)\n"
        "        threading.Thread(target=hold).start(); time.sleep(0.5)\n"
        f"        ctypes.CDLL(None).syscall({_number(60, 93)}, 0)\ntime.sleep(99)",
        (KILLED,),
        "more than 1 GiB of memory",
        timeout_s=60,
    ),
    Case(
        "files_behind_mappings",
        "import mmap, os, time\nms = []\nfor i in range(20):\n"
        "    with open('x', 'w+b') as f:\n        f.write(bytes(8 << 20)); f.flush(); os.remove('x')\n"
        "        ms.append(mmap.mmap(f.fileno(), 4096))\ntime.sleep(99)",
        (KILLED,),
        "more than 32 MiB of files",
        timeout_s=60,
    ),
    Case(
        "private_files_behind_mappings",
        "import mmap, os, time\nms = []\nfor i in range(20):\n"
        "    with open('x', 'w+b') as f:\n        f.write(bytes(8 << 20)); f.flush(); os.remove('x')\n"
        "        ms.append(mmap.mmap(f.fileno(), 4096, mmap.MAP_PRIVATE))\n"
        "if os.fork(): time.sleep(99)\ntime.sleep(99)",
        (KILLED,),
        "more than 32 MiB of files",
        timeout_s=60,
    ),
    Case(
        "areas_of_forks",
        f"{SYSCALL}import time\nlibc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 5]\n"
        "libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]\n"
        "start = libc.mmap(None, 4_000 << 13, 3, 0x22, -1, 0)\n"
        "ctypes.memset(start, 1, 4_000 << 13)\n"
        "for area in range(4_000): libc.mprotect(start + (area << 13), 4096, 1)\n"
        "for _ in range(45):\n    if os.fork() == 0: break\ntime.sleep(99)",
        (KILLED,),
        "more than 1 GiB of memory",
        timeout_s=60,
    ),
    Case(  # who may trace looks into it all the same
        "program_that_cannot_be_read",
        "import os\nwith open('/bin/sleep', 'rb') as f: data = f.read()\n"
        "d = os.open('s', os.O_CREAT | os.O_WRONLY, 0o111); os.write(d, data); os.close(d)\n"
        "!./s 9",
        (KILLED, TIMEOUT),
        timeout_s=3,
    ),
]
REACH = [
    _refused("attach_shared_memory", f"call({_number(30, 196)}, 0, 0, 0)"),
    _refused("remove_shared_memory", f"call({_number(31, 195)}, 0, 0, 0)"),
    _refused("send_to_queue", f"call({_number(69, 189)}, 0, b'x' * 16, 1, 0x800)"),
    _refused("receive_from_queue", f"call({_number(70, 188)}, 0, b'x' * 16, 1, 0, 0x800)"),
    _refused("remove_queue", f"call({_number(71, 187)}, 0, 0, 0)"),
    _refused("use_semaphore", f"call({_number(65, 193)}, 0, bytes(6), 1)"),
    _refused("remove_semaphore", f"call({_number(66, 191)}, 0, 0, 0, 0)"),
    _refused("unlink_posix_queue", f"call({_number(241, 181)}, b'x')"),
    _refused("lease", "import fcntl; fcntl.fcntl(open(os.__file__).fileno(), 1024, 0)"),
    _refused("signals_by_descriptor", "import fcntl; fcntl.fcntl(0, 8, {solver})"),
    _refused("signal_of_choice", "import fcntl; fcntl.fcntl(0, 10, 9)"),
    _refused(
        "file_flags",
        "import fcntl; fcntl.ioctl(open(os.__file__), 0x40086602, bytes(8))",
        "Inappropriate ioctl",
    ),
    _refused(
        "file_project",
        "import fcntl; fcntl.ioctl(open(os.__file__), 0x401C5820, bytes(28))",
        "Inappropriate ioctl",
    ),
    _denied("bind", "import socket; socket.socket(1).bind('s')", needs="seccomp"),
    _denied("listen", "import socket; socket.socketpair()[0].listen()", needs="seccomp"),
    _refused("asynchronous_io", f"call({_number(206, 0)}, 1 << 15, ctypes.byref(ctypes.c_long()))"),
    _refused("notifications", f"call({_number(294, 26)}, 0)"),
    _refused("notifications_of_all", f"call({_number(300, 262)}, 0, 0)"),
    _refused("key", f"call({_number(248, 217)}, b'user', b'x', b'y', 1, -4)"),
    _refused("write_memory", f"call({_number(311, 271)}, {{solver}}, 0, 0, 0, 0, 0)"),
    _refused("page_faults", f"call({_number(323, 282)}, 1)"),
    _refused("descriptor_of_solver", "call(438, os.pidfd_open({solver}), 0, 0)"),
    _refused("disk_of_solver", f"call({_number(251, 30)}, 1, {{solver}}, 3 << 13)"),
    _refused("sync", f"call({_number(162, 81)})", ""),
    _refused("sync_file_system", f"call({_number(306, 267)}, 0)"),
    _refused("mounts_of_solver", "call(458, ctypes.create_string_buffer(32), bytes(64), 8, 0)"),
    Case(  # which all of a user's have a limited number of
        "watches_without_end",
        "import os, select, time\npolls = [select.epoll() for _ in range(9)]\n"
        "ends = [os.pipe()[0] for _ in range(20)]\n"
        "for poll in polls:\n    for end in ends:\n        for d in range(100, 250):\n"
        "            os.dup2(end, d); poll.register(d, 1)\ntime.sleep(99)",
        (KILLED,),
        "more than 16384 watched descriptors",
        timeout_s=60,
    ),
]
UIDS = [
    _denied(
        "bind_names_of_locks",
        "import socket; socket.socket(1).bind('\\0sandbox-uids-1')",
        needs="seccomp",
    ),
    _denied("list_locks_of_uids", "import os; os.listdir('/run/sandbox-uids')", "Error"),
    _denied(
        "lock_uids",
        "import fcntl\nfor n in range(0x7000_0000, 0x7000_0000 + 512 * 99, 512):\n"
        "    fcntl.flock(open(f'/run/sandbox-uids/{{n}}', 'w'), fcntl.LOCK_EX)",
        "Error",
    ),
    _refused("uid_of_a_neighbour", "os.setuid(os.getuid() + 2)", "Error"),
    _refused("uid_of_who_ends_it", "os.setresuid(os.getuid() + 1, -1, os.getuid() + 1)", "Error"),
    _refused("file_of_a_neighbour", "open('f', 'w'); os.chown('f', os.getuid() + 2, -1)"),
    _refused("groups_of_others", "os.setgroups([0])"),
    _denied("other_ids_of_its_own", "open('/proc/self/uid_map', 'w')"),
    _denied("kill_a_neighbour", "import os; os.kill({kernel}, 9)"),
    _denied("stop_a_neighbour", "import os; os.killpg({kernel}, 19)"),
    _denied("files_of_a_neighbour", "import os; os.listdir('/proc/{kernel}/fd')"),
]
CAGE = [
    _denied("ports_of_solver", "open('/proc/self/net/tcp').read()"),
    _denied("sockets_of_peers", "open('/proc/self/net/unix').read()"),
    _denied(
        "sockets_by_thread", "import os; open(f'/proc/self/task/{{os.getpid()}}/net/unix').read()"
    ),
    _denied("sockets_by_own_thread", "open('/proc/thread-self/net/unix').read()"),
    _denied("sockets_by_parent", "open('/proc/{solver}/net/unix').read()"),
    _denied("take_terminals", "import os\nwhile True: os.openpty()", "Error"),
    _denied("open_multiplexer", "open('/dev/ptmx', 'r+b', 0)", "Error"),
    _denied("link_for_a_socket", "import os; os.symlink('/var/run/docker.sock', '../shell')"),
    _denied("folder_for_a_socket", "import os; os.mkdir('../run')"),
    _denied("rename_own_folder", "import os; os.rename('../work', '../run')"),
    _denied("shared_memory_of_all", "import os; os.listdir('/proc/{solver}/root/dev/shm')"),
]

# Past the kernel's own bounds: `s` is the socket on which its output leaves, used as it is, and in its own
# thread: from another, libzmq may find its socket in disorder and end the process before the flood does.
RAW = """
import json, os, stat, threading, time
from jupyter_client.session import Session
from ipykernel.kernelapp import IPKernelApp
s = get_ipython().kernel.iopub_thread.socket
parent = get_ipython().kernel.get_parent()
session = Session(key=b'')
start = [b'<IDS|MSG>', b'', json.dumps({{'msg_type': 'stream'}}).encode(),
         json.dumps({{'msg_id': parent['header']['msg_id']}}).encode(), b'{{}}']
def there(flood):
    over = threading.Event()
    def run():
        try: flood()
        finally: over.set()
    get_ipython().kernel.iopub_thread.schedule(run)
    over.wait()
"""


FLOODED = "(more messages than are read)"


def _flood(name: str, code: str, *ends: str, told: str = FLOODED, timeout_s: float = 30) -> Case:
    code = f"{RAW}def flood():\n{indent(code, '    ')}\nthere(flood)"
    return Case(name, code, ends or (KILLED,), told, timeout_s)


MESSAGES = [
    _flood("many_parts", "s.send_multipart([b''] * 500_000)"),
    _flood("many_large_parts", "while True: s.send_multipart([b'x' * (8 << 20)] * 8)"),
    _flood("large_messages", "while True: s.send(b'x' * (8 << 20))"),
    _flood("small_messages", "while True: s.send(b'')"),
    _flood("messages_of_all_that_is_read", "while True: s.send(b'x' * 1_000_000)"),
    _flood(
        "forged_errors",
        "e = {{'ename': '', 'evalue': '', 'traceback': ['x']}}\n"
        "for _ in range(20_000): session.send(s, 'error', e, parent=parent)",
    ),
    _flood(
        "forged_text",
        "while True: s.send_multipart([*start, json.dumps({{'text': 'x' * 10**5}}).encode()])",
        KILLED,
        ERROR,
        TIMEOUT,
        told="xxx",
    ),
    _flood(
        "deeply_nested", "while True: s.send_multipart([*start, b'[' * 500_000 + b']' * 500_000])"
    ),
    _flood(
        "many_small_objects",
        "while True: s.send_multipart([*start, b'{{\"a\":[' + b'[],' * 300_000 + b'1]}}'])",
    ),
    Case(
        "bytes_of_no_message",
        f"{RAW}for d in range(256):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(d).st_mode):\n"
        "            for _ in range(20): os.write(d, b'\\x01\\x00' * 100_000)\n"
        "    except OSError: pass\n",
        (KILLED, DIED),
        "restarted",
        timeout_s=8,
    ),
    Case(
        "a_part_that_never_comes",
        f"{RAW}for d in range(256):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(d).st_mode): os.write(d, b'\\x02' + b'\\xff' * 8)\n"
        "    except OSError: pass\ntime.sleep(60)",
        (KILLED,),
        FLOODED,
        timeout_s=20,
    ),
    Case(
        "byte_by_byte",
        f"{RAW}for d in range(256):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(d).st_mode) and os.fork() == 0:\n"
        "            os.set_blocking(d, True)\n"  # or a slow reader ends the flood
        "            os.write(d, b'\\x02' + (200_000).to_bytes(8, 'big'))\n"
        "            for _ in range(10_000): os.write(d, b'x')\n"
        "            while True: os.write(d, b'x' * 20_000)\n"
        "    except OSError: pass\ntime.sleep(60)",
        (KILLED,),
        FLOODED,
        timeout_s=20,
    ),
    Case(
        "half_characters",
        f"{RAW}e = {{{{'ename': '\\ud800', 'evalue': '\\ud800', 'traceback': ['\\ud800']}}}}\n"
        'm = [*start[:2], b\'{{"msg_type": "error"}}\', *start[3:], json.dumps(e).encode()]\n'
        "there(lambda: s.send_multipart(m))",
        (OK,),
        "\\ud800",
    ),
    _flood(
        "flood_by_replies",
        "r = IPKernelApp.instance().shell_socket\n"
        "while True: r.send_multipart([*get_ipython().kernel._parent_ident['shell'], b'x' * 10**6])",
        KILLED,
        ERROR,  # it is another thread's socket
        DIED,
        told="ed",
    ),
    Case(
        "large_mimes",
        "display({{'text/plain': 'x', **{{f'a/{{i}}': 'y' * 10**6 for i in range(10)}}}}, raw=True)",
        (OK,),
        "x",
    ),
    Case(
        "large_buffers",
        "k = get_ipython().kernel\n"
        "k.session.send(k.iopub_socket, 'comm_msg', {{}}, buffers=[b'x' * 10**8])",
        (OK,),
    ),
    Case(
        "large_payload",
        "p = {{'source': 'page', 'data': ['x' * 10**7] * 99}}\n"
        "get_ipython().payload_manager.write_payload(p)",
        (OK,),
    ),
    Case("displays", "while True: display('x' * 1000)", (ERROR,), "more than 1000000 characters"),
    Case("flushes", "while True: print(1, flush=True)", (TIMEOUT,), "variables kept", timeout_s=2),
    Case(
        "comm_messages",
        "k = get_ipython().kernel\n"
        "while True: k.session.send(k.iopub_socket, 'comm_msg', {{'x': 'y' * 10**5}})",
        (TIMEOUT,),
        timeout_s=1,
    ),
]
# They flood when their cell is over; the next cell pays for it with its state.
SOON = "threading.Timer(0.2, get_ipython().kernel.iopub_thread.schedule, [flood]).start()"
LATER = [
    Case(
        "flood_between_cells",
        f"{RAW}def flood():\n    while True: s.send(b'x' * (8 << 20))\n{SOON}",
        (OK, KILLED),
    ),
    Case(
        "small_flood_between_cells",
        f"{RAW}def flood():\n    while True: s.send(b'')\n{SOON}",
        (OK, KILLED),
    ),
]
KINDS = (
    TIMEOUTS,
    STUCK,
    DEATHS,
    ERRORS,
    DENIED,
    CONTAINED,
    MEMORY_HIDDEN,
    UIDS,
    REACH,
    CAGE,
    MESSAGES,
)
CASES = [case for kind in KINDS for case in kind]
# At least four of each kind, from all of its list: what is tried at every level of isolation.
REPRESENTATIVE = [case for kind in KINDS for case in kind[:: len(kind) // 4]]


def selected() -> list[str]:
    """What pytest is to run of test_hostile.py at a level besides its own.

    The representative cells, or all of them where SANDBOX_HOSTILE is `all`.
    """
    module = "tests/sandbox/test_hostile.py"
    if os.environ.get("SANDBOX_HOSTILE") == "all":
        return [module]
    cells = [f"{module}::test_hostile[{case.name}]" for case in REPRESENTATIVE]
    return [*cells, f"{module}::test_hostile_between_cells"]
