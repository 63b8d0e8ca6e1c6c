"""What a server is started with, for every kind of machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solver.config import ModelConfig, VllmConfig
from solver.engines.vllm.command import MemorySettings, Recipe
from solver.errors import ConfigError

STOP = ("--hf-overrides", '{"architectures": ["StopX"]}', "--additional-config", "{}")


def recipe(
    *args: str,
    on_cpu: bool = False,
    stop: tuple[str, ...] = (),
    settings: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    **model: Any,
) -> Recipe:
    return Recipe(
        Path("/models/small"),
        ModelConfig(**model),
        VllmConfig(args=args),
        settings=settings or {},
        on_cpu=on_cpu,
        environment=environment or {},
        stop_flags=stop,
        program=("server",),
    )


def flags(made: Recipe, memory: MemorySettings | None = None) -> dict[str, str | None]:
    """The flags by name, with their one value."""
    argv = made.command(8011, "small-1", memory or made.memory).argv
    found: dict[str, str | None] = {}
    for word, after in zip(argv[1:], [*argv[2:], "--"], strict=True):
        if word.startswith("-"):
            assert word not in found, f"{word} twice"
            found[word] = None if after.startswith("-") else after
    return found


def test_a_gpu_gets_its_share_of_memory_and_bfloat16() -> None:
    found = flags(recipe(context_length=4096))
    assert found["--host"] == "127.0.0.1" and found["--port"] == "8011"
    assert found["--model"] == "/models/small" and found["--served-model-name"] == "small-1"
    assert found["--dtype"] == "bfloat16" and found["--max-model-len"] == "4096"
    assert found["--gpu-memory-utilization"] == "0.9" and found["--max-num-seqs"] == "64"
    assert found["--generation-config"] == "vllm"
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= found.keys()
    assert not {"--enforce-eager", "--block-size"} & found.keys()


def test_a_cpu_gets_what_vllm_needs_there() -> None:
    made = recipe(on_cpu=True, threads=2)
    found = flags(made)
    assert found["--dtype"] == "float32" and found["--block-size"] == "32"
    assert found["--max-num-batched-tokens"] == "16384" and "--enforce-eager" in found
    assert "--gpu-memory-utilization" not in found and "--max-model-len" not in found
    environment = made.command(1, "x", made.memory).environment
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "2" and environment["OMP_NUM_THREADS"] == "2"


def test_the_room_decides_about_memory() -> None:
    found = flags(recipe(), MemorySettings(0.8, 32, 1000))
    assert found["--gpu-memory-utilization"] == "0.8" and found["--max-num-seqs"] == "32"
    assert found["--max-model-len"] == "1000"


@pytest.mark.parametrize(
    ("settings", "stop", "dtype"),
    [
        ({"quantization_config": {}}, (), "auto"),
        ({"quantization_config": {}, "dtype": "bfloat16"}, STOP, "auto"),
        ({"quantization_config": {}, "torch_dtype": "float16"}, (), "auto"),
        ({"quantization_config": {}, "torch_dtype": "float16"}, STOP, "bfloat16"),
        ({"torch_dtype": "float16"}, STOP, "bfloat16"),
    ],
)
def test_a_quantised_model_keeps_its_dtype_unless_the_adapter_cannot_do_with_it(
    settings: dict[str, Any], stop: tuple[str, ...], dtype: str
) -> None:
    assert flags(recipe(settings=settings, stop=stop))["--dtype"] == dtype
    assert flags(recipe(settings=settings, stop=stop, dtype="float32"))["--dtype"] == "float32"


def test_the_adapters_flags_are_passed_on() -> None:
    found = flags(recipe(stop=STOP))
    assert found["--hf-overrides"] == STOP[1] and found["--additional-config"] == "{}"


def test_the_users_flags_come_last_and_replace_ours() -> None:
    made = recipe("--max_num_seqs=8", "--dtype", "auto", "-tp", "2", "--no-enable-prefix-caching")
    argv = made.command(1, "x", made.memory).argv
    assert argv[-6:] == (
        *("--max_num_seqs=8", "--dtype", "auto", "-tp", "2"),
        "--no-enable-prefix-caching",
    )
    assert argv.count("--dtype") == 1
    assert not {"--max-num-seqs", "--enable-prefix-caching"} & {*argv}


def test_length_is_free_unless_somebody_fixed_it() -> None:
    assert recipe().length_is_free
    assert not recipe(context_length=512).length_is_free
    assert not recipe("--max-model-len=512").length_is_free


@pytest.mark.parametrize(
    "given",
    [
        *(
            ("--host", "0.0.0.0"),
            ("--port=1",),
            ("--model", "x"),
            ("--api-key", "k"),
            ("--uds", "x"),
        ),
        *(("--served_model_name", "x"), ("--hos", "0.0.0.0"), ("--ssl-keyfile", "x")),
        *(("--disable-log-stats",), ("--logprobs-mode", "raw_logits"), ("--no-headless",)),
    ],
)
def test_what_the_solver_sets_itself_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="the solver sets that itself; leave it out") as caught:
        recipe("--seed", "1", *given)
    assert " ".join(given) in str(caught.value)


def test_words_without_a_flag_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"vllm.args begins with '2'"):
        recipe("2", "--seed", "1")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--hf-overrides", "{}"), "needs --hf-overrides itself"),
        (("--hf_overrides.rope_theta", "1"), "needs --hf-overrides itself"),
        (("--dtype", "float16"), "cannot be served in float16"),
        (("--dtype=half",), "cannot be served in float16"),
        (("--pipeline-parallel-size", "2"), "cannot be served with pipeline parallelism"),
        (("-pp", "2"), "cannot be served with pipeline parallelism"),
        (("--pipeline_parallel_size=2",), "cannot be served with pipeline parallelism"),
    ],
)
def test_what_the_adapter_cannot_do_is_refused_only_with_one(
    given: tuple[str, ...], words: str
) -> None:
    recipe(*given)
    with pytest.raises(ConfigError, match=words):
        recipe(*given, stop=STOP)


def test_harmless_parallelism_goes_with_an_adapter() -> None:
    recipe("-pp", "1", "--tensor-parallel-size", "2", "--dtype", "bfloat16", stop=STOP)


def test_the_environment_is_quiet_offline_and_without_a_key() -> None:
    made = recipe(environment={"PATH": "/bin", "VLLM_API_KEY": "secret"})
    environment = made.command(1, "x", made.memory).environment
    assert environment["PATH"] == "/bin" and "VLLM_API_KEY" not in environment
    assert {"VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_OFFLINE"} <= environment.keys()
    assert "CUDA_VISIBLE_DEVICES" not in environment and "OMP_NUM_THREADS" not in environment


def test_the_users_cache_size_on_a_cpu_wins() -> None:
    made = recipe(on_cpu=True, environment={"VLLM_CPU_KVCACHE_SPACE": "7"})
    assert made.command(1, "x", made.memory).environment["VLLM_CPU_KVCACHE_SPACE"] == "7"


@pytest.mark.parametrize(
    ("visible", "chosen"), [(None, "1"), ("4,5", "5"), ("GPU-a,GPU-b", "GPU-b")]
)
def test_one_gpu_of_several_is_the_only_one_that_is_seen(visible: str | None, chosen: str) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    made = recipe(device="cuda:1", environment=environment)
    assert made.command(1, "x", made.memory).environment["CUDA_VISIBLE_DEVICES"] == chosen
