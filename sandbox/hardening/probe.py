"""Finds out which layers hold here: `python -I probe.py UID FILE...`, one line of JSON on descriptor 1.

Every layer is really put on, in a process of its own, and then tried. What fails is left out, with
the reason, and the rest is tried again.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox.hardening import landlock, seccomp
from sandbox.hardening.cage import FOLDERS, Cage, close, enter

LAYERS = ("landlock", "seccomp", "uid")
CAGE = Cage(
    folder="",
    parent=0,
    layers=(),
    memory_bytes=4 << 30,
    file_bytes=1 << 20,
    open_files=64,
    processes=16,
    shm_bytes=1 << 20,
)
MOST_SAID = 1 << 16
UNREADABLE = "a user of its own could not read the interpreter"


def probe(uid: int, libraries: list[Path]) -> dict[str, Any]:
    """What holds, what does not and why, with `uid` for a uid of a kernel's own.

    `libraries` are files that a kernel must be able to read.
    """
    missing = _not_in_this_linux()
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        Path(folder).chmod(0o711)
        for name in FOLDERS:
            Path(folder, name).mkdir()
        Path(folder, "outside").write_text("x")
        cage = replace(CAGE, folder=folder, uid=uid)
        for layer in LAYERS:
            if layer not in missing:
                missing |= _reason(layer, replace(cage, layers=(layer,)))
        layers = tuple(layer for layer in LAYERS if layer not in missing)
        user = tuple({"uid"} & set(layers))  # who may not mount does so as that user
        missing |= _reason("shm", replace(cage, layers=user, private_shm=True))
        best = replace(cage, layers=layers, private_shm="shm" not in missing)
        for cage in _choices(best):
            found = _try(cage, libraries)
            # Without Landlock nothing helps against files that cannot be read.
            if found.get("reads") or ("failed" not in found and "landlock" not in layers):
                break
        else:
            missing |= dict.fromkeys(layers, found.get("failed", UNREADABLE))
            cage, found = CAGE, {}
    for layer in set(layers) - set(cage.layers):
        missing.setdefault(layer, UNREADABLE)
    if not cage.private_shm:
        missing.setdefault("shm", UNREADABLE)
    return {
        "layers": sorted(cage.layers),
        "missing": missing,
        "read_anywhere": cage.read_anywhere,
        "private_shm": cage.private_shm,
        "readable": found.get("readable", False),
        "signals_stopped": found.get("signals_stopped", False),
    }


def _not_in_this_linux() -> dict[str, str]:
    """The layers that need not be tried, and why."""
    missing = {}
    if os.geteuid() != 0:
        missing["uid"] = "not root"
    if not landlock.abi():
        missing["landlock"] = "not in this Linux"
    elif landlock.abi() < landlock.FIRST_WITH_TRUNCATE and os.geteuid() != 0:
        missing["landlock"] = "this Linux cannot keep files from being truncated; 6.2 can"
    if not seccomp.available():
        missing["seccomp"] = "not in this Linux, or not for this machine"
    return missing


def _choices(best: Cage) -> Iterator[Cage]:
    """Ever less of the best, where that cannot be: its user may not reach the interpreter's files.

    A capability to read them helps, but a user namespace, which a private /dev/shm may need, takes it
    away, and not every root may hand it on.
    """
    yield best
    if {"uid", "landlock"} <= set(best.layers):
        yield replace(best, read_anywhere=True)
        yield replace(best, read_anywhere=True, private_shm=False)
    without = replace(best, layers=tuple(layer for layer in best.layers if layer != "uid"))
    yield replace(without, private_shm=True)
    yield replace(without, private_shm=False)


def _reason(name: str, cage: Cage) -> dict[str, str]:
    """Why this cannot be had; empty where it can."""
    failed = _try(cage, []).get("failed")
    return {name: failed} if failed else {}


def _try(cage: Cage, libraries: list[Path]) -> dict[str, Any]:
    """Put the layers on in a child and try them; `failed` says what went wrong."""
    parent = os.getpid()
    reading, writing = os.pipe()
    staying, leaving = os.pipe()  # the child stays until we have looked into it
    if (child := os.fork()) == 0:
        os.close(leaving)
        try:
            enter(replace(cage, parent=parent))
            close(cage)
            found = _look(cage, libraries, parent)
        except BaseException as error:
            found = {"failed": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(found).encode())
        os.read(staying, 1)
        os._exit(0)
    os.close(writing)
    os.close(staying)
    text = os.read(reading, MOST_SAID)
    readable = all(
        _allowed(lambda name=name: Path("/proc", str(child), name).read_text())
        for name in ("maps", "smaps_rollup")
    )
    os.close(leaving)
    os.close(reading)
    os.waitpid(child, 0)
    if not text:
        return {"failed": "the trial ended without a word"}
    return {**json.loads(text), "readable": readable}


def _look(cage: Cage, libraries: list[Path], parent: int) -> dict[str, Any]:
    if "uid" in cage.layers and os.getresuid() != (cage.uid,) * 3:
        raise PermissionError("the uid did not change")
    if "landlock" in cage.layers and _allowed(lambda: Path(cage.folder, "outside").read_text()):
        raise PermissionError("a file outside can be read")
    if "seccomp" in cage.layers and _allowed(lambda: socket.socket(socket.AF_INET).close()):
        raise PermissionError("a network socket can be made")
    return {
        "reads": all(_allowed(lambda path=path: path.open("rb").close()) for path in libraries),
        "signals_stopped": not _allowed(lambda: os.kill(parent, 0)),
    }


def _allowed(action: Any) -> bool:
    try:
        action()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(probe(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]])))
