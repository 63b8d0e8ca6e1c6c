"""The NVIDIA driver that wheels built for CUDA need."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.version import InvalidVersion, Version

# The oldest Linux driver that runs programs of any CUDA release of that major version (NVIDIA's "minor
# version compatibility").
_OLDEST = {12: "525.60.13", 13: "580.65.06"}
_RUNTIME = "nvidia-cuda-runtime"


def cuda_of(wheels: Iterable[tuple[str, str]]) -> str | None:
    """The CUDA version of (name, version) pairs, by their CUDA runtime; None if there is none."""
    for name, version in wheels:
        if name == _RUNTIME or name.startswith(f"{_RUNTIME}-cu"):
            return version
    return None


def oldest_driver(cuda: str | None) -> str | None:
    """The oldest driver for programs of CUDA `cuda` (such as 13.0.48); None if it is not known."""
    return None if cuda is None else _OLDEST.get(Version(cuda).major)


def driver_fault(driver: str | None, cuda: str | None) -> str | None:
    """Why `driver` does not run programs of CUDA `cuda`; None if it does, or one of them is not known."""
    needed = oldest_driver(cuda)
    try:
        if needed is None or driver is None or Version(driver) >= Version(needed):
            return None
    except InvalidVersion:
        return None
    return f"CUDA {cuda} needs driver {needed} or newer, this machine has {driver}"
