"""What --ray, --actors and --gpus-per-actor ask for, as they are typed."""

from __future__ import annotations

import pytest

from solver.distributed.hands import LOCAL, Hands, with_address
from solver.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("p.csv --ray", "local"),
        ("--ray p.csv", "local"),
        ("p.csv --ray --actors 2", "local"),
        ("p.csv --ray auto", "auto"),
        ("p.csv --ray 10.0.0.1:6379 --actors 2", "10.0.0.1:6379"),
        ("p.csv --ray ray://head:10001", "ray://head:10001"),
    ],
)
def test_the_address_may_be_left_out(typed: str, address: str) -> None:
    words = with_address(typed.split())
    assert f"--ray={address}" in words or words[words.index("--ray") + 1] == address
    assert "p.csv" in words or address != LOCAL


def test_other_arguments_stay() -> None:
    assert with_address(["p.csv", "--seed", "3"]) == ["p.csv", "--seed", "3"]
    assert with_address([]) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((None, 2, None), "are for --ray"),
        ((None, None, 1.0), "are for --ray"),
        (("ray://head:10001", None, None), "run this on a node of the cluster"),
        ((LOCAL, None, 1.5), "a whole number, or a part of one GPU"),
    ],
)
def test_what_cannot_be(flags: tuple[str | None, int | None, float | None], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Hands.of_flags(*flags)


def test_half_a_gpu_can_be() -> None:
    assert Hands.of_flags(LOCAL, None, 0.5) == Hands(LOCAL, None, 0.5)
    assert Hands.of_flags(None, None, None) is None
