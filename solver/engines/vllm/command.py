"""What a vLLM server is started with: its flags and its environment. Pure; nothing is started here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from solver.config import ModelConfig, VllmConfig
from solver.errors import ConfigError

# -P: a file in the user's folder never stands in for a module of vLLM's.
PROGRAM = (sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server")

_OWNED = (
    *("--host", "--port", "--uds", "--model", "--served-model-name", "--api-key", "--root-path"),
    *("--ssl-keyfile", "--ssl-certfile", "--headless", "--grpc", "--skip-tokenizer-init"),
    *("--disable-log-stats", "--logprobs-mode"),
)
_SHORT = {"-pp": "--pipeline-parallel-size"}
_FLAG = re.compile(r"--?[A-Za-z]")
_HALF = ("float16", "half")


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
        _check(_flags(self.vllm.args), {flag.name for flag in _flags(self.stop_flags)})

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
            flag.name for flag in _flags(self.vllm.args)
        }

    @property
    def dtype(self) -> str:
        """What the server is told to compute in; `auto` leaves it to vLLM."""
        theirs = [flag.value for flag in _flags(self.vllm.args) if flag.name == "--dtype"]
        return theirs[-1] if theirs else self._dtype()

    def command(self, port: int, name: str, room: Room) -> Command:
        """The command of a server on `port` that calls its model `name`."""
        theirs = _flags(self.vllm.args)
        named = {flag.name for flag in theirs}
        ours = [flag for flag in _flags(self._ours(port, name, room)) if flag.name not in named]
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
        return "bfloat16" if self.stop_flags and kept in _HALF else "auto"

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


@dataclass(frozen=True, slots=True)
class _Flag:
    """A flag with its values; `name` is the long one, the same for --x, --no-x and --x.key."""

    name: str
    words: tuple[str, ...]

    @property
    def value(self) -> str:
        """Its only value, however it was written; empty if it has none or several."""
        _, equals, value = self.words[0].partition("=")
        return value if equals else self.words[1] if len(self.words) == 2 else ""


def _flags(words: Sequence[str]) -> list[_Flag]:
    groups: list[list[str]] = []
    for word in words:
        if _FLAG.match(word):
            groups.append([word])
        elif groups:
            groups[-1].append(word)
        else:
            raise ConfigError(f"vllm.args begins with {word!r}: give flags, such as --seed")
    return [_Flag(_name(group[0]), tuple(group)) for group in groups]


def _name(word: str) -> str:
    name = re.split(r"[=.]", word, maxsplit=1)[0].replace("_", "-")
    return _SHORT.get(name, re.sub("^--no-", "--", name))


def _check(flags: Iterable[_Flag], adapters: Set[str]) -> None:
    """Refuse what the solver sets itself and, if there are flags of an adapter, what it cannot do."""
    for flag in flags:
        shown = " ".join(flag.words)
        # argparse takes any beginning of a flag for the flag
        if any(owned.startswith(flag.name) for owned in _OWNED):
            raise ConfigError(f"vllm.args holds {shown}: the solver sets that itself; leave it out")
        if not adapters:
            continue
        if flag.name in adapters:
            raise ConfigError(
                f"vllm.args holds {shown}: the STOP adapter needs {flag.name} itself; leave it out,"
                " or choose another scorer"
            )
        if flag.name == "--dtype" and flag.value in _HALF:
            raise ConfigError(
                "the STOP adapter cannot be served in float16: leave --dtype out of vllm.args"
            )
        if flag.name == "--pipeline-parallel-size" and flag.value != "1":
            raise ConfigError(
                "the STOP adapter cannot be served with pipeline parallelism: use"
                " --tensor-parallel-size in vllm.args, or choose another scorer"
            )
