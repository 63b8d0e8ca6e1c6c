"""Every preset is a whole config, for a model that is named, and its parts fit together."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

import prompts
from solver.config import SolverConfig
from solver.engines.vllm.command import Recipe
from solver.errors import ConfigError
from solver.runs.settings import load_config, preset_names
from solver.scorers import Need, find_scorer

THEIRS = [name for name in preset_names() if name != "embedded"]
SHIPPED = ["qwen2.5-coder-0.5b"]  # of models of theirs, the adapters that come with us
ON_VLLM = ["gpt-oss-120b", "gpt-oss-20b", "qwen3"]


def preset(name: str) -> SolverConfig:
    return load_config(name, overrides={} if name == "embedded" else {"model.path": "/m"})


def test_the_presets() -> None:
    assert preset_names() == sorted(["embedded", "general", "qwen-coder-small", *SHIPPED, *ON_VLLM])
    assert {name for name in THEIRS if preset(name).model.engine == "vllm"} == set(ON_VLLM)


@pytest.mark.parametrize("name", THEIRS)
def test_a_preset_for_a_model_of_theirs_needs_it(name: str) -> None:
    with pytest.raises(ConfigError, match=f"preset {name} .*add --set model.path=FOLDER"):
        load_config(name)
    assert load_config(name, sets=["model.path=/m"]).model.path == "/m"


@pytest.mark.parametrize("name", preset_names())
def test_the_template_fits_the_dialect(name: str) -> None:
    model = preset(name).model
    if model.dialect == "harmony":  # instructions that stand apart from the statement
        assert prompts.render(model.prompt)
    else:
        assert "1+1?" in prompts.render(model.prompt, statement="1+1?")
        with pytest.raises(UndefinedError):
            prompts.render(model.prompt)


@pytest.mark.parametrize("name", preset_names())
def test_the_scorer_works_without_what_is_not_shipped(name: str) -> None:
    prune = preset(name).prune
    assert prune.adapter is None and prune.reward_model is None
    assert name in ("embedded", *SHIPPED) or Need.ADAPTER not in find_scorer(prune.scorer).needs


def test_a_shipped_adapters_preset_differs_in_its_pruning_alone() -> None:
    [name] = SHIPPED
    small = preset("qwen-coder-small")
    assert preset(name).model_copy(update={"prune": small.prune}) == small


@pytest.mark.parametrize("name", ON_VLLM)
def test_a_trajectory_fits_its_context_with_room_for_tools(name: str) -> None:
    config = preset(name)
    assert config.model.context_length is not None
    assert config.sampling.max_tokens <= 0.8 * config.model.context_length
    assert config.prune.launch <= config.vllm.max_num_seqs


@pytest.mark.parametrize("name", ON_VLLM)
def test_the_flags_are_the_users_to_give(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = preset(name)
    recipe = Recipe(tmp_path, config.model, config.vllm, {}, False, {}, ("--hf-overrides", "{}"))
    words = recipe.command(1, "m", recipe.memory).argv
    assert str(config.model.context_length) in words
    assert all(word in words for word in config.vllm.args)


def test_gpt_oss_talks_harmony_and_the_others_do_not() -> None:
    dialects = {name: preset(name).model.dialect for name in preset_names()}
    harmony = {name for name, dialect in dialects.items() if dialect == "harmony"}
    assert harmony == {"gpt-oss-120b", "gpt-oss-20b"}
