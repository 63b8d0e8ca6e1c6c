"""What a kernel may use. Seconds, bytes and counts; every execution is bounded by these."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Layer = Literal["uid", "landlock", "seccomp", "subreaper"]


class Limits(BaseModel):
    """Bounds of one kernel and of the pool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell_timeout_s: float = Field(default=30.0, gt=0, description="wall seconds a cell")
    grace_s: float = Field(
        default=2.0, gt=0, description="seconds an interrupt may take before the kill"
    )
    output_bytes: int = Field(default=20_000, ge=100, description="most output a model is shown")
    accepted_bytes: int = Field(
        default=1_000_000, ge=1_000, description="most output read from a kernel"
    )
    code_bytes: int = Field(default=200_000, ge=1_000, description="longest code that is run")
    memory_bytes: int = Field(default=4 << 30, ge=1 << 28, description="address space of a kernel")
    resident_bytes: int = Field(
        default=6 << 30, ge=1 << 28, description="memory of a kernel and all it started"
    )
    floor_bytes: int = Field(
        default=512 << 20,
        ge=0,
        description="memory that the machine keeps: below it the largest kernel is stopped",
    )
    folder_bytes: int = Field(
        default=512 << 20, ge=1 << 20, description="files a kernel may keep in its folder"
    )
    file_bytes: int = Field(
        default=64 << 20, ge=1 << 10, description="largest file a kernel may write"
    )
    open_files: int = Field(default=256, ge=64, description="descriptors a kernel may hold open")
    processes: int = Field(default=64, ge=16, description="processes and threads a kernel may run")
    shm_bytes: int = Field(
        default=256 << 20, ge=1 << 20, description="most that a kernel may hold in /dev/shm"
    )
    replay_s: float = Field(
        default=0.0,
        ge=0,
        description="earlier cells are run again in a replaced kernel if they took less than this;"
        " 0: never",
    )
    require: tuple[Layer, ...] = Field(
        default=(), description="layers of isolation without which nothing is run"
    )
    spares: int = Field(default=2, ge=0, description="kernels kept ready")
    start_concurrency: int = Field(default=8, ge=1, description="kernels started at a time")
    start_timeout_s: float = Field(
        default=60.0, gt=0, description="seconds a kernel may take to start"
    )
