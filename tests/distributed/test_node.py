"""Which machines are fit, by what lies on them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from solver.distributed.node import installation, why_unfit
from solver.embedded.paths import WEIGHTS
from solver.errors import ModelError
from solver.runs.settings import load_config
from solver.scorers.folders import SHIPPED_ADAPTER


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The shipped model and its adapter, as somebody's own."""
    shutil.copytree(WEIGHTS, tmp_path / "model")
    shutil.copytree(SHIPPED_ADAPTER, tmp_path / "adapter")
    return tmp_path


def test_the_same_files_are_fit(copies: Path) -> None:
    config = load_config(sets=["prune.scorer=stop", f"prune.adapter={copies / 'adapter'}"])
    expected = installation(config)
    assert why_unfit(config, expected) is None
    assert len(expected.model) == len(expected.adapter) == 64 and expected.reward_model == ""


def test_what_differs_is_named(copies: Path) -> None:
    config = load_config(sets=["prune.scorer=stop", f"prune.adapter={copies / 'adapter'}"])
    expected = installation(config)
    for change, says in (
        ({"version": "9.9"}, "its version is "),
        ({"python": "3.99"}, "its python is "),
        ({"model": "0" * 64}, "the driver's is 000000000000"),
    ):
        assert says in str(why_unfit(config, replace(expected, **change)))
    with (copies / "adapter" / "stop.json").open("a") as file:
        file.write("\n")
    assert "its adapter is " in str(why_unfit(config, expected))
    shutil.rmtree(copies / "adapter")
    assert f"cannot read {copies / 'adapter'}" in str(why_unfit(config, expected))


def test_the_adapter_of_the_last_check_is_one_of_them(copies: Path) -> None:
    sets = ["vote.rule=verified", f"vote.adapter={copies / 'adapter'}"]
    config = load_config(sets=sets)
    expected = installation(config)
    assert len(expected.last_check) == 64 and why_unfit(config, expected) is None
    (copies / "adapter" / "stop.json").write_text("{}")
    assert "its last check is " in str(why_unfit(config, expected))
    assert installation(load_config()).last_check == ""


def test_a_machine_without_the_model(copies: Path) -> None:
    config = load_config(sets=[f"model.path={copies / 'model'}", "prune.scorer=confidence"])
    expected = installation(config)
    shutil.rmtree(copies / "model")
    assert "is not a model folder" in str(why_unfit(config, expected))
    with pytest.raises(ModelError):
        installation(config)
