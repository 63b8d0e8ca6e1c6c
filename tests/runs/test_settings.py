"""Layers of settings. What is refused is in tests/cli/test_bad_input.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import SolverConfig
from solver.errors import ConfigError
from solver.runs.settings import differing_key, load_config, parse_duration, parse_range
from solver.scorers import scorer_names
from solver.scorers.registry import names_with_chances


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[prune]\nlaunch = 20\nkeep = 5\nmark = 50\n[sampling]\ntop_k = 7\n")
    config = load_config(
        "general",
        file,
        ["prune.keep=6", "prune.mark=60", "model.path=/m"],
        {"prune.mark": 70, "seed": 1},
    )
    assert config.sampling.max_tokens == 16_384  # preset
    assert (config.prune.launch, config.sampling.top_k) == (20, 7)  # file
    assert config.prune.keep == 6  # --set
    assert (config.prune.mark, config.seed) == (70, 1)  # flags
    assert config.sampling.max_turns == SolverConfig.model_validate({}).sampling.max_turns


def test_the_preset_follows_the_model(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_text('[model]\npath = "/models/qwen"\n')
    assert load_config().model.prompt == "bare"
    assert load_config(overrides={"model.path": "embedded"}).model.prompt == "bare"
    assert load_config(overrides={"model.path": "/m"}).model.prompt == "tools"
    assert load_config(sets=["model.path=/m"]).prune.mark == 2048
    assert load_config(config_file=file).prune.mark == 2048
    assert load_config("embedded", overrides={"model.path": "/m"}).model.prompt == "bare"


@pytest.mark.parametrize("model", ["embedded", "/m"])
def test_a_saved_config_comes_back(model: str, tmp_path: Path) -> None:
    config = load_config(overrides={"budget.time_limit_s": 20.0, "model.path": model})
    saved = tmp_path / "config.json"
    saved.write_text(config.model_dump_json())
    assert load_config(config_file=saved) == config
    assert load_config(base=config) == config


def test_stages_and_one_check_replace_each_other(tmp_path: Path) -> None:
    file = tmp_path / "stages.toml"
    file.write_text("[prune]\nstages = [[16, 12], [48, 6]]\n")
    staged = load_config(config_file=file)
    assert staged.prune.checks == ((16, 12), (48, 6))
    assert (staged.prune.mark, staged.prune.keep) == (16, 6)
    assert load_config(sets=["prune.stages=[[16, 12], [48, 6]]"]) == staged
    assert load_config(base=staged) == load_config(base=staged, config_file=file) == staged
    saved = tmp_path / "config.json"
    saved.write_text(staged.model_dump_json())
    assert load_config(config_file=saved) == staged
    for one in (
        load_config(config_file=file, overrides={"prune.mark": 20}),
        load_config(config_file=saved, sets=["prune.mark=20"]),
        load_config(base=staged, overrides={"prune.mark": 20}),
    ):
        assert one.prune.stages is None and one.prune.checks[0].mark == 20


def test_on_a_base_only_what_is_given_changes() -> None:
    base = load_config(overrides={"seed": 5, "prune.launch": 12})
    changed = load_config(base=base, overrides={"budget.time_limit_s": 9.0})
    assert changed.prune == base.prune and changed.seed == 5
    assert differing_key(base, changed) == "budget.time_limit_s"
    assert differing_key(base, base) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("prune.scorer=none", "none"),
        ('prune.scorer="none"', "none"),
        ("prune.scorer = none", "none"),
        ("model.path=a=b", "a=b"),
        ("model.path=1\nseed = 2", "1\nseed = 2"),
        ("prune={launch = 9}", 9),
    ],
)
def test_set_values(text: str, value: object) -> None:
    config = load_config(sets=[text])
    assert value in (config.prune.scorer, config.model.path, config.prune.launch)
    assert config.seed == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20),
        ("5m", 300),
        ("4h50m", 17_400),
        ("1.5h", 5400),
        ("300", 300),
        ("0.5", 0.5),
        ("1h2m3s", 3723),
        (" 7s ", 7),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "-5s", "1h-2m", "5s5m", "inf", "nan", "1e3", "٣s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ConfigError, match="not a duration"):
        parse_duration(text)


@given(h=st.integers(0, 99), m=st.integers(0, 99), s=st.integers(0, 99))
def test_any_duration(h: int, m: int, s: int) -> None:
    assert parse_duration(f"{h}h{m}m{s}s") == 3600 * h + 60 * m + s


def test_ranges() -> None:
    assert parse_range("0:99999") == (0, 99_999)
    assert parse_range("-5:5") == (-5, 5)
    for text in ("", "5", "5:", ":5", "1:2:3", "a:b", "1.5:2", "0:" + "9" * 5000):
        with pytest.raises(ConfigError, match="not a range"):
            parse_range(text)


@given(key=st.text(max_size=30), value=st.text(max_size=30))
def test_any_set_is_a_config_or_one_line(key: str, value: str) -> None:
    try:
        load_config(sets=[f"{key}={value}"])
    except ConfigError as error:
        assert str(error)


@pytest.mark.parametrize("scorer", names_with_chances())
def test_votes_are_weighed_by_chances(scorer: str) -> None:
    sets = [f"prune.scorer={scorer}", "vote.rule=weighted"]
    assert load_config(sets=sets).vote.rule == "weighted"
    for other in set(scorer_names()) - set(names_with_chances()):
        with pytest.raises(ConfigError, match=rf"choose prune\.scorer from .*{re.escape(scorer)}"):
            load_config(sets=[*sets, f"prune.scorer={other}"])


def test_the_general_preset_needs_a_model() -> None:
    with pytest.raises(ConfigError, match=r"add --set model\.path=FOLDER"):
        load_config("general")
