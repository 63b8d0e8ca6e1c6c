"""The command line and environment of a vLLM server, computed from settings; nothing is started here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from solver.config import ModelConfig, VllmConfig
from solver.engines.vllm.flags import HALF, check_flags, read_flags

# -P: a file in the user's folder is not imported instead of a module of vLLM's.
PROGRAM = (sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server")


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """How much memory a server may use; a start that did not fit is tried once more with less.

    `max_model_len` is in tokens, None leaves it to the model; `cpu_cache_gib` is the KV cache of a
    server on a CPU.
    """

    gpu_memory_utilization: float
    max_num_seqs: int
    max_model_len: int | None
    cpu_cache_gib: int = 2

    def for_device(self, *, on_cpu: bool, configured: MemorySettings) -> MemorySettings:
        """These settings, with those of the other kind of device as they were configured."""
        if on_cpu:
            return replace(self, gpu_memory_utilization=configured.gpu_memory_utilization)
        return replace(self, cpu_cache_gib=configured.cpu_cache_gib)


@dataclass(frozen=True, slots=True)
class Command:
    """The words of the command line, and the whole environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What stays the same at every start of this server.

    `settings` is the model's config.json; `stop_flags` are the flags of the STOP plugin, empty without an
    adapter; `program` is the command that gets the flags.
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
    def memory(self) -> MemorySettings:
        """The memory that the settings ask for."""
        return MemorySettings(
            self.vllm.gpu_memory_utilization, self.vllm.max_num_seqs, self.model.context_length
        )

    @property
    def length_is_free(self) -> bool:
        """Whether the user set no context length, so that a shorter one may be chosen."""
        return self.model.context_length is None and "--max-model-len" not in {
            flag.name for flag in read_flags(self.vllm.args)
        }

    @property
    def dtype(self) -> str:
        """The dtype that the server computes in; `auto` leaves it to vLLM."""
        given = [flag.value for flag in read_flags(self.vllm.args) if flag.name == "--dtype"]
        return given[-1] if given else self._dtype()

    def command(self, port: int, name: str, memory: MemorySettings) -> Command:
        """The command of a server on `port` that calls its model `name`."""
        given = read_flags(self.vllm.args)
        named = {flag.name for flag in given}
        own = read_flags(self._own_flags(port, name, memory))
        kept = [flag for flag in own if flag.name not in named]
        words = (word for flag in (*kept, *given) for word in flag.words)
        return Command((*self.program, *words), self._environment(memory))

    def _own_flags(self, port: int, name: str, memory: MemorySettings) -> list[str]:
        flags = ["--host", "127.0.0.1", "--port", str(port)]
        flags += ["--model", str(self.model_folder), "--served-model-name", name]
        flags += ["--dtype", self._dtype(), "--max-num-seqs", str(memory.max_num_seqs)]
        if memory.max_model_len is not None:
            flags += ["--max-model-len", str(memory.max_model_len)]
        if self.on_cpu:
            # Other block sizes fail, and a seeded request must not be prefilled in chunks there.
            flags += ["--block-size", "32", "--max-num-batched-tokens", "16384", "--enforce-eager"]
        else:
            flags += ["--gpu-memory-utilization", str(memory.gpu_memory_utilization)]
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
        # vLLM knows which dtype a quantised model's kernels take, but the adapter cannot run in float16.
        kept = self.settings.get("dtype", self.settings.get("torch_dtype"))
        return "bfloat16" if self.stop_flags and kept in HALF else "auto"

    def _environment(self, memory: MemorySettings) -> dict[str, str]:
        ours = {key: v for key, v in self.environment.items() if key != "VLLM_API_KEY"}
        ours |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        ours["PYTHONUNBUFFERED"] = "1"  # the log is read while it is written
        if self.on_cpu:
            ours.setdefault("VLLM_CPU_KVCACHE_SPACE", str(memory.cpu_cache_gib))
            if self.model.threads is not None:
                ours["OMP_NUM_THREADS"] = str(self.model.threads)
        elif self.model.device.startswith("cuda:"):
            visible = ours.get("CUDA_VISIBLE_DEVICES", "").split(",")
            index = self.model.device.removeprefix("cuda:")
            chosen = visible[int(index)] if visible != [""] else index
            ours["CUDA_VISIBLE_DEVICES"] = chosen
        return ours
