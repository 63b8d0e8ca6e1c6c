"""The facts of this machine. Each function reads one of them; `machine.py` judges them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from solver.doctor.machine import KAGGLE_PORT, Gpu

_ASK_S = 20.0


def requirements_of(names: Iterable[str]) -> dict[str, list[str]]:
    """What those of `names` that are installed require."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = requires(name) or []
    return found


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[Gpu]:
    """The GPUs that the driver knows, whether torch can use them or not."""
    rows = (line.rpartition(",") for line in _ask_driver("name,memory.total") if "," in line)
    return [Gpu(name.strip(), int(mib) << 20) for name, _, mib in rows if mib.strip().isdecimal()]


def _ask_driver(fields: str) -> list[str]:
    """A line for each GPU; none without a driver."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_ASK_S)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines()]


def driver() -> str | None:
    """The version of the NVIDIA driver; None without one."""
    return next(iter(_ask_driver("driver_version")), None)


def torch_gpus() -> int:
    """How many GPUs torch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def torch_cuda() -> str | None:
    """The CUDA version that torch was built for; None for a CPU build."""
    import torch

    version: str | None = torch.version.cuda
    return version


def free_disk() -> dict[str, int]:
    """Free bytes where runs are written and where kernels work."""
    folders = (str(Path.cwd()), tempfile.gettempdir())
    return {folder: shutil.disk_usage(folder).free for folder in folders}


def loopback_trouble() -> str | None:
    """Why no port of the loopback interface can be opened; None if one can."""
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            with socket.create_connection(server.getsockname(), timeout=_ASK_S):
                return None
    except OSError as error:
        return error.strerror or str(error)


def kaggle_port_taken() -> bool:
    """Whether a process listens on the port of Kaggle's inference server."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", KAGGLE_PORT)) == 0


def version_of(name: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
