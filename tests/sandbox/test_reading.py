"""What cells show, as a user would expect it."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.ports import Sandbox
from sandbox.result import ExecutionStatus
from tests.reading.cases import of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@of("cell")
async def test_a_cell(case: dict[str, Any], sandbox: Sandbox) -> None:
    result = await sandbox.execute(case["input"], 20)
    assert (result.status, result.stdout) == (ExecutionStatus.OK, case["expected"] + "\n")


async def test_a_question_mark_prints_the_help(sandbox: Sandbox) -> None:
    result = await sandbox.execute("sum?", 20)
    assert "Return the sum of a 'start' value" in result.stdout


async def test_an_endless_number_is_stopped_by_the_time_limit(sandbox: Sandbox) -> None:
    result = await sandbox.execute("n = 7 ** 100_000_000\nprint(str(n))", 2)
    assert result.status in (ExecutionStatus.TIMEOUT, ExecutionStatus.KILLED)
    assert (await sandbox.execute("1 + 1", 20)).stdout == "2\n"
