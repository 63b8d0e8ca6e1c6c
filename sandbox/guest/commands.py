"""Shell commands of a cell: `!`, and the magics that use it."""

import codecs
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from typing import Any

INSTALLS = re.compile(
    r"(?:^|[;&|(])\s*(?:sudo\s+)?(?:\S*python\S*\s+-m\s+)?"
    r"(?:pip3?|conda|mamba|uv|apt|apt-get)\s+(?:\S+\s+)*?install\b"
)
PIPE_BYTES, POLL_S = 1 << 16, 0.05


def runner(shell: Any, *, network: bool) -> Callable[[str], None]:
    """What `!` does: no terminal (there is none), nothing to read, and the output as it comes."""

    def run(command: str) -> None:
        line = shell.var_expand(command, depth=1)
        if not network and INSTALLS.search(line):
            sys.stdout.write("[no network in this sandbox]: nothing can be installed\n")
            shell.user_ns["_exit_code"] = 1
            return
        process = subprocess.Popen(
            line,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            _print_output(process)
            shell.user_ns["_exit_code"] = process.wait()
        finally:
            process.kill()

    return run


def _print_output(process: subprocess.Popen[bytes]) -> None:
    """Until it ends: what it started in the background may hold the pipe open for ever."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    assert process.stdout is not None
    with process.stdout as output:
        while process.poll() is None or select.select([output], [], [], 0)[0]:
            if select.select([output], [], [], POLL_S)[0]:
                if not (data := os.read(output.fileno(), PIPE_BYTES)):
                    return
                sys.stdout.write(decode(data))
