"""Which isolation is in force on this machine, in words and as a level."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.limits import Layer
from sandbox.uids import trial_uid

log = logging.getLogger(__name__)

PROBE = Path(__file__).with_name("hardening") / "probe.py"
PROBE_TIMEOUT_S = 20.0
ORDER: tuple[Layer, ...] = ("uid", "landlock", "seccomp", "subreaper")


class IsolationError(RuntimeError):
    """A layer that must be there is not."""


@dataclass(frozen=True)
class Isolation:
    """What holds here. `missing` says of every other layer why it does not."""

    layers: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    read_anywhere: bool = False  # kernels keep the capability to read files of any owner
    private_shm: bool = False  # each kernel has a /dev/shm of its own
    readable: bool = True  # the processes of kernels can be looked into, to count their memory
    signals_stopped: bool = False  # the solver and the other kernels cannot be signalled

    @property
    def level(self) -> str:
        """L3 (all layers, as root) to L0."""
        walls = {"landlock", "seccomp"} <= set(self.layers)
        if "uid" in self.layers:
            return "L3" if walls else "L1"
        return "L2" if walls else "L0"

    def __str__(self) -> str:
        lacking = [
            name
            for name, layer in (("file", "landlock"), ("network", "seccomp"))
            if layer not in self.layers
        ]
        words = ", ".join(self.layers or ("rlimits", "process groups"))
        return f"{words} (no {' or '.join(lacking)} isolation)" if lacking else words

    def require(self, layers: tuple[str, ...]) -> None:
        """Raise `IsolationError` unless all of these hold."""
        lacking = [name for name in layers if name not in self.layers]
        if lacking:
            reasons = "; ".join(f"{name}: {self.missing.get(name, 'no')}" for name in lacking)
            raise IsolationError(f"required isolation is not to be had here ({reasons})")


def isolation() -> Isolation:
    """What holds for the user that this process runs as; tried once."""
    return _probed(os.geteuid(), sys.executable)


@functools.cache
def _probed(user: int, executable: str) -> Isolation:
    if sys.platform != "linux":
        return Isolation(missing=dict.fromkeys(ORDER, "only on Linux"))
    found_at = (importlib.util.find_spec(name) for name in ("argparse", "numpy"))
    libraries = [str(spec.origin) for spec in found_at if spec is not None]
    command = [executable, "-I", str(PROBE), str(trial_uid()), *libraries]
    try:
        found = json.loads(
            subprocess.run(
                command, check=True, capture_output=True, timeout=PROBE_TIMEOUT_S, env={}
            ).stdout
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("cannot find out which isolation holds here: %s", error)
        return Isolation(missing=dict.fromkeys(ORDER, f"cannot be tried: {error}"))
    missing = dict(found["missing"])
    layers = [layer for layer in ORDER if layer in found["layers"]]
    if "uid" in layers:
        missing["subreaper"] = "a uid of its own finds every process"
    else:
        layers.append("subreaper")
    return Isolation(
        layers=tuple(layers),
        missing=missing,
        read_anywhere=found["read_anywhere"],
        private_shm=found["private_shm"],
        readable=found["readable"],
        signals_stopped=found["signals_stopped"],
    )
