"""The zygote's parent: ends what the zygote leaves behind when something kills it.

Run by `boot.py`, never imported by the solver. It is small, starts the zygote as a fork of itself
before anything is loaded, and inherits every daemon whose kernel and zygote are gone.
"""

import contextlib
import os
import signal
import sys

from sandbox.hardening.syscalls import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from sandbox.hardening.tree import kill_below


def main(descriptor: str, folder: str, group: str, solver: str) -> None:
    """Keep one zygote; its end is ours."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = os.getpid()
    if (zygote := os.fork()) == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == keeper:
            from sandbox.zygote import serve

            serve(int(descriptor), folder, group, int(solver))
        sys.exit()

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(zygote, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    os.close(int(descriptor))  # the solver sees the zygote's end by its own
    os.waitpid(zygote, 0)
    with contextlib.suppress(ChildProcessError):
        while True:
            kill_below(os.getpid())
            os.waitpid(-1, 0)
