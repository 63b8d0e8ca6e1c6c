"""What a kernel may use. Seconds, bytes and counts; every execution is bounded by these."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
    file_bytes: int = Field(
        default=64 << 20, ge=1 << 10, description="largest file a kernel may write"
    )
    open_files: int = Field(default=256, ge=64, description="descriptors a kernel may hold open")
    spares: int = Field(default=2, ge=0, description="kernels kept ready")
    start_concurrency: int = Field(default=2, ge=1, description="kernels started at a time")
    start_timeout_s: float = Field(
        default=60.0, gt=0, description="seconds a kernel may take to start"
    )
