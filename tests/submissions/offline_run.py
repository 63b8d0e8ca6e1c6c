"""Run in a network namespace of its own: the notebook's source, in an empty environment, offline.

Arguments: the environment's Python, the wheelhouse, a file of problems, a folder to work in.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
# Nothing of this environment helps: not its source tree, not its package index.
_BARE = ("PYTHONPATH", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


def main() -> None:
    """Rehearse, then examine what was installed; prints one JSON object."""
    from submissions.rehearsal import rehearse
    from tests.support.submissions import plan

    python, wheels, problems, out = sys.argv[1:]
    if os.environ.get("CUT") != "no":
        bring_loopback_up()
    run = Path(out) / "run-1"
    (run / "input" / "datasets" / "ada").mkdir(parents=True)
    (run / "input" / "datasets" / "ada" / "stop-solver-wheels").symlink_to(wheels)
    bare = ["env", "PIP_CONFIG_FILE=/dev/null", *(word for name in _BARE for word in ("-u", name))]
    bare = [bare[0], *bare[2:], bare[1]]
    rehearsed = rehearse(
        plan(
            Path(out),
            Path(problems),
            out=Path(out),
            limit_s=540.0,
            command=(*bare, python, str(ROOT / "notebook" / "submission.py")),
            worker=(python, "-m", "submissions.worker"),
            preset="embedded",
            sets=("model.path=embedded",),
            least_silence_s=30.0,
        ),
        1,
    )
    doctor = [python, "-m", "solver.doctor", "--wheelhouse", wheels, "--json"]
    examined = subprocess.run([*bare, *doctor], cwd=out, capture_output=True, text=True)
    where = [python, "-c", "import solver, submissions; print(solver.__file__)"]
    told = {
        "network": reachable(),
        "failure": rehearsed.failure,
        "submission": str(rehearsed.submission),
        "log": (run / "submission.log").read_text(),
        "solver": subprocess.run([*bare, *where], cwd=out, capture_output=True, text=True).stdout,
        "doctor": examined.stdout or examined.stderr,
        "doctor_status": examined.returncode,
    }
    print(json.dumps(told))


def bring_loopback_up() -> None:
    """A new namespace has its loopback interface down."""
    with socket.socket() as any_socket:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request), 16)
        request = struct.pack("16sH14s", b"lo", flags | _IFF_UP, b"")
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def reachable() -> bool:
    """Whether there is a way out of here; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return False
        return True


if __name__ == "__main__":
    main()
