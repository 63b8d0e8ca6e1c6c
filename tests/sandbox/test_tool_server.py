"""The MCP server, as a client of the official SDK sees it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

mcp = pytest.importorskip("mcp")

ROOT = Path(__file__).parents[2]


def started(*options: str) -> object:
    return mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "sandbox", "mcp", *options],
        cwd=ROOT,
        env={**os.environ, "API_TOKEN": "swordfish-1234"},
    )


async def told(client: object, code: str, **options: object) -> str:
    result = await client.call_tool("python", {"code": code, **options})  # type: ignore[attr-defined]
    assert not result.is_error, result
    (content,) = result.content
    return str(content.text)


async def test_one_stateful_tool_within_the_limits() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    async with mcp.Client(started("--timeout", "40")) as client:
        (tool,) = (await client.list_tools()).tools
        assert tool.name == "python"
        assert tool.input_schema["required"] == ["code"]
        assert await told(client, "x = 20\nprint('a')") == "a"
        assert await told(client, "x + 1") == "21"
        assert "ZeroDivisionError" in await told(client, "1/0")
        assert "variables kept" in await told(client, "while True: pass", timeout_s=1)
        network = await told(client, "import socket; socket.socket()")
        assert network.endswith("[no network in this sandbox]")
        assert "swordfish" not in await told(client, "import os; dict(os.environ)")
        assert "kernel died and was restarted" in await told(client, "os._exit(1)")
        assert "NameError" in await told(client, "x")
        answers = await asyncio.gather(*(told(client, f"{n} * {n}") for n in range(5)))
        assert answers == ["0", "1", "4", "9", "16"]
        refused = await client.call_tool("python", {"code": "1", "timeout_s": 60})
        assert refused.is_error
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert after <= before


async def test_bad_options_are_refused() -> None:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "sandbox", "mcp", "--require", "chroot"],
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, words = await process.communicate()
    assert process.returncode == 2
    assert words == b"error: --require is one of uid, landlock, seccomp, subreaper\n"
