"""What a vLLM server is started with: its flags and its environment. Pure; nothing is started here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from solver.config import ModelConfig, VllmConfig
from solver.engines.vllm.flags import HALF, check_flags, read_flags

# -P: a file in the user's folder never stands in for a module of vLLM's.
PROGRAM = (sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server")


@dataclass(frozen=True, slots=True)
class Room:
    """What a server asks of memory; a start that did not fit is tried once more with less.

    `max_model_len` is in tokens, None leaves it to the model; `cpu_cache_gib` is the KV cache of a
    server on a CPU.
    """

    gpu_memory_utilization: float
    max_num_seqs: int
    max_model_len: int | None
    cpu_cache_gib: int = 2


@dataclass(frozen=True, slots=True)
class Command:
    """What is executed: the words of the command line, and its whole environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that stays the same whenever this server is started again.

    `settings` is the model's config.json; `stop_flags` are those of the plugin, empty without an
    adapter; `program` is what the flags are given to.
    """

    model_folder: Path
    model: ModelConfig
    vllm: VllmConfig
    settings: Mapping[str, Any]
    on_cpu: bool
    environment: Mapping[str, str]
    stop_flags: tuple[str, ...] = ()
    program: tuple[str, ...] = field(default=PROGRAM)

    def __post_init__(self) -> None:
        check_flags(read_flags(self.vllm.args), read_flags(self.stop_flags))

    @property
    def room(self) -> Room:
        """The memory that the settings ask for."""
        return Room(
            self.vllm.gpu_memory_utilization, self.vllm.max_num_seqs, self.model.context_length
        )

    def relevant(self, room: Room) -> Room:
        """`room` without what means nothing on this machine."""
        if self.on_cpu:
            return replace(room, gpu_memory_utilization=self.room.gpu_memory_utilization)
        return replace(room, cpu_cache_gib=self.room.cpu_cache_gib)

    @property
    def length_is_free(self) -> bool:
        """Whether the context length was left to us."""
        return self.model.context_length is None and "--max-model-len" not in {
            flag.name for flag in read_flags(self.vllm.args)
        }

    @property
    def dtype(self) -> str:
        """What the server is told to compute in; `auto` leaves it to vLLM."""
        theirs = [flag.value for flag in read_flags(self.vllm.args) if flag.name == "--dtype"]
        return theirs[-1] if theirs else self._dtype()

    def command(self, port: int, name: str, room: Room) -> Command:
        """The command of a server on `port` that calls its model `name`."""
        theirs = read_flags(self.vllm.args)
        named = {flag.name for flag in theirs}
        ours = [flag for flag in read_flags(self._ours(port, name, room)) if flag.name not in named]
        words = (word for flag in (*ours, *theirs) for word in flag.words)
        return Command((*self.program, *words), self._environment(room))

    def _ours(self, port: int, name: str, room: Room) -> list[str]:
        flags = ["--host", "127.0.0.1", "--port", str(port)]
        flags += ["--model", str(self.model_folder), "--served-model-name", name]
        flags += ["--dtype", self._dtype(), "--max-num-seqs", str(room.max_num_seqs)]
        if room.max_model_len is not None:
            flags += ["--max-model-len", str(room.max_model_len)]
        if self.on_cpu:
            # Other block sizes fail, and a seeded request must not be prefilled in chunks there.
            flags += ["--block-size", "32", "--max-num-batched-tokens", "16384", "--enforce-eager"]
        else:
            flags += ["--gpu-memory-utilization", str(room.gpu_memory_utilization)]
        flags += ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
        # The model folder's own sampling defaults would be added to every request.
        flags += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
        return [*flags, *self.stop_flags]

    def _dtype(self) -> str:
        if self.model.dtype != "auto":
            return self.model.dtype
        if self.on_cpu:
            return "float32"
        if "quantization_config" not in self.settings:
            return "bfloat16"
        # vLLM knows what a quantised model's kernels take, but the adapter cannot do with float16.
        kept = self.settings.get("dtype", self.settings.get("torch_dtype"))
        return "bfloat16" if self.stop_flags and kept in HALF else "auto"

    def _environment(self, room: Room) -> dict[str, str]:
        ours = {key: v for key, v in self.environment.items() if key != "VLLM_API_KEY"}
        ours |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        ours["PYTHONUNBUFFERED"] = "1"  # the log is read while it is written
        if self.on_cpu:
            ours.setdefault("VLLM_CPU_KVCACHE_SPACE", str(room.cpu_cache_gib))
            if self.model.threads is not None:
                ours["OMP_NUM_THREADS"] = str(self.model.threads)
        elif self.model.device.startswith("cuda:"):
            visible = ours.get("CUDA_VISIBLE_DEVICES", "").split(",")
            index = self.model.device.removeprefix("cuda:")
            chosen = visible[int(index)] if visible != [""] else index
            ours["CUDA_VISIBLE_DEVICES"] = chosen
        return ours
