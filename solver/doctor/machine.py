"""Checks of processor, memory, disk and ports, from plain facts. Sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solver.doctor.finding import Finding, fail, gb, ok, warn
from solver.doctor.memory import Need

KAGGLE_PORT = 50051
_KERNEL = 100 << 20  # resident memory of a kernel with numpy and sympy in use
_PROCESS = 1 << 30  # the solver's own: torch, transformers, tables
_LEAST_DISK = 1 << 30
_CUDA_OVERHEAD = 3 << 30  # context, activations and graphs on each GPU


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as the driver describes it."""

    name: str
    total: int


def cpu(cores: int, threads: int | None) -> Finding:
    """`cores` are those that this process may use, `threads` the number that the config sets for torch."""
    if threads is not None and threads > cores:
        return warn(
            "cpu", f"{cores} cores, {threads} threads wanted", f"--set model.threads={cores}"
        )
    if cores < 2:
        return warn("cpu", "1 core", "model and kernels share it: expect half the speed")
    return ok("cpu", f"{cores} cores")


def ram(available: int, kernels: int, need: Need | None, *, model_on_cpu: bool) -> Finding:
    """`kernels` may run at once; without `need` the model is not counted."""
    base = _PROCESS + kernels * _KERNEL
    least = base + (need.least if need is not None and model_on_cpu else 0)
    wanted = base + (need.wanted if need is not None and model_on_cpu else 0)
    found = f"{gb(available)} free, {gb(wanted)} wanted"
    if available < least:
        return fail("memory", found, "choose a smaller model, or a smaller prune.launch")
    if available < wanted:
        return warn(
            "memory", found, "lower prune.launch, sampling.max_tokens or model.context_length"
        )
    if need is not None and not model_on_cpu and available < need.weights:
        return warn(
            "memory",
            found,
            "the weights do not fit into the page cache: every start reads the disk",
        )
    return ok("memory", found)


def gpu(
    found: Sequence[Gpu],
    torch_sees: int,
    *,
    device: str,
    num: int,
    share: float,
    need: Need | None,
    small: bool,
    driver_fault: str | None = None,
) -> Finding:
    """Whether a model fits on `num` GPUs of which `share` of the memory is used.

    `driver_fault` is why the driver does not run what torch was built for, None if it does.
    `small` says that the model is meant for a CPU: then no GPU is needed.
    """
    wants_cuda = device.startswith("cuda") or num > 1
    if not found:
        if wants_cuda:
            return fail("gpu", "none", "use a machine with a GPU, or --set model.device=cpu")
        if small or device == "cpu":
            return ok("gpu", "none, and none is needed")
        return warn("gpu", "none", "the model computes on the CPU: use a machine with a GPU")
    names = ", ".join(f"{one.name} with {gb(one.total)}" for one in found)
    if device == "cpu":
        return ok("gpu", f"{names}; not used (device cpu)")
    if driver_fault is not None:
        return fail(
            "gpu", f"{names}; {driver_fault}", "update the driver, or install an older torch"
        )
    if not torch_sees:
        return fail(
            "gpu", f"{names}, but torch does not see it", "install torch for CUDA, check the driver"
        )
    if torch_sees < num:
        return fail("gpu", f"{torch_sees} of {num}", f"--tensor-parallel-size {torch_sees}")
    if need is None:
        return ok("gpu", names)
    usable = sum(int(one.total * share) - _CUDA_OVERHEAD for one in found[:num])
    found_text = f"{names}; {gb(max(usable, 0))} usable, {gb(need.wanted)} wanted"
    if usable < need.least:
        return fail("gpu", found_text, "lower model.context_length, or use a smaller model")
    if usable < need.wanted:
        return warn(
            "gpu",
            found_text,
            "trajectories will wait for each other: lower prune.launch or prune.keep",
        )
    return ok("gpu", found_text)


def disk(free: Mapping[str, int], wanted: int) -> Finding:
    """Free bytes by folder (the run's, the kernels') against what all kernels together may write."""
    where, least = min(free.items(), key=lambda item: item[1])
    found = f"{gb(least)} free in {where}"
    if least < _LEAST_DISK:
        return fail("disk", found, f"free {gb(_LEAST_DISK)}: runs keep every token")
    if least < wanted:
        return warn("disk", found, f"kernels may write {gb(wanted)}: lower sandbox.folder_bytes")
    return ok("disk", found)


def ports(loopback: str | None, taken: bool) -> Finding:
    """`loopback` is why no port of the loopback interface can be opened, None if one can."""
    if loopback is not None:
        return fail("ports", f"no loopback: {loopback}", "bring the interface lo up")
    if taken:
        return warn(
            "ports",
            f"{KAGGLE_PORT} is taken",
            "an earlier inference server would answer the new gateway: end it",
        )
    return ok("ports", f"loopback works, {KAGGLE_PORT} is free")
