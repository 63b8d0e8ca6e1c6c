"""The doctor asks vLLM's real parser."""

from __future__ import annotations

from solver.doctor.finding import Status
from solver.doctor.trials import vllm_flags
from solver.embedded.paths import WEIGHTS
from solver.runs.settings import load_config

ENGINE = "model.engine='vllm'"


def test_the_flags_of_a_start_are_taken_with_the_adapter() -> None:
    finding = vllm_flags(load_config(sets=[ENGINE]), WEIGHTS, on_cpu=True)
    assert finding.status is Status.OK, finding


def test_the_flags_of_the_kaggle_preset_are_taken() -> None:
    config = load_config("gpt-oss-120b", overrides={"model.path": str(WEIGHTS)})
    finding = vllm_flags(config, WEIGHTS, on_cpu=False)
    assert finding.status is Status.OK, finding


def test_a_flag_that_vllm_does_not_know_is_named() -> None:
    config = load_config(sets=[ENGINE, "vllm.args=['--no-such-thing', '3']"])
    finding = vllm_flags(config, WEIGHTS, on_cpu=True)
    assert finding.status is Status.FAIL
    assert finding.found == "unrecognized arguments: --no-such-thing"
