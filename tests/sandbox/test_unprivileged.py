"""The same as an unprivileged user: the hostile cells, the contract and the self-check, at level L2."""

from __future__ import annotations

import os
import sys

import pytest

from tests.sandbox.hostile import selected
from tests.sandbox.somebody import as_somebody, home, interpreter

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"),
    pytest.mark.skipif(os.geteuid() != 0, reason="not root: all other tests are unprivileged"),
]

SUITES = {
    "hostile": selected(),
    "contract": ["tests/sandbox/test_contract.py"],
    "hardening": ["tests/sandbox/test_hardening.py"],
    "zygote": ["tests/sandbox/test_zygote.py::test_daemons_end_with_a_zygote_that_is_killed"],
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("suite", SUITES)
def test_unprivileged(suite: str) -> None:
    with home() as folder:
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}/pytest"]
        command = [interpreter(folder), "-m", "pytest", *SUITES[suite], *options]
        done = as_somebody(command, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_self_check_holds_at_level_2() -> None:
    with home() as folder:
        done = as_somebody([interpreter(folder), "-m", "sandbox", "check"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "isolation: landlock, seccomp, subreaper (L2)" in done.stdout
    assert "NO" not in done.stdout
