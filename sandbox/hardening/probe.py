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
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox.hardening import landlock, seccomp
from sandbox.hardening.cage import FOLDERS, Cage, close, enter

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


def probe(uid: int, libraries: list[Path]) -> dict[str, Any]:
    """What holds, what does not and why, with `uid` for a uid of a kernel's own.

    `libraries` are files that a kernel must be able to read.
    """
    missing: dict[str, str] = {}
    layers = {"uid", "landlock", "seccomp"}
    if os.geteuid() != 0:
        missing["uid"] = "not root"
    if not landlock.abi():
        missing["landlock"] = "not in this Linux"
    elif landlock.abi() < landlock.FIRST_WITH_TRUNCATE and os.geteuid() != 0:
        missing["landlock"] = "this Linux cannot keep files from being truncated; 6.2 can"
    if not seccomp.available():
        missing["seccomp"] = "not in this Linux, or not for this machine"
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        Path(folder).chmod(0o711)
        for name in FOLDERS:
            Path(folder, name).mkdir()
        Path(folder, "outside").write_text("x")
        cage = replace(CAGE, folder=folder, uid=uid, private_shm=True)
        alone = "uid" in layers - missing.keys()
        if reason := _try(replace(cage, layers=("uid",) if alone else ()), libraries).get("failed"):
            cage = replace(cage, private_shm=False)
            missing["shm"] = reason
        for layer in sorted(layers - missing.keys()):
            if reason := _try(replace(cage, layers=(layer,)), libraries).get("failed"):
                missing[layer] = reason
        cage = replace(cage, layers=tuple(layers - missing.keys()))
        together = _try(cage, libraries)
        if "uid" in cage.layers and not together.get("reads") and "landlock" in cage.layers:
            cage = replace(cage, read_anywhere=True)
            together = _try(cage, libraries)
            if not together.get("reads") and cage.private_shm:  # a user namespace takes it away
                missing["shm"] = "a user of its own could not read the interpreter then"
                cage = replace(cage, private_shm=False)
                together = _try(cage, libraries)
            if together.get("failed"):  # nor may this root hand the capability on
                missing["uid"] = "a user of its own could not read the interpreter"
                layers.discard("uid")
                cage = replace(
                    cage,
                    layers=tuple(layers - missing.keys()),
                    read_anywhere=False,
                    private_shm=True,
                )
                together = _try(cage, libraries)
                missing.pop("shm", None)
                if reason := together.get("failed"):
                    missing["shm"] = reason
                    cage = replace(cage, private_shm=False)
                    together = _try(cage, libraries)
    if reason := together.get("failed"):
        missing.update(dict.fromkeys(cage.layers, reason))
        cage = replace(CAGE, layers=())
    return {
        "layers": sorted(cage.layers),
        "missing": missing,
        "read_anywhere": cage.read_anywhere,
        "private_shm": cage.private_shm,
        "readable": together.get("readable", False),
        "signals_stopped": together.get("signals_stopped", False),
    }


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
