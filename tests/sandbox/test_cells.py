"""Cells that behave, more or less: state, display, errors, output."""

from __future__ import annotations

import pytest

from sandbox.ports import Sandbox
from sandbox.result import ExecutionStatus

pytestmark = pytest.mark.asyncio(loop_scope="module")

MB = 1_000_000


async def test_state_persists_between_cells(sandbox: Sandbox) -> None:
    assert (await sandbox.execute("x = 20\ndef f(n): return n + x", 10)).stdout == ""
    assert (await sandbox.execute("f(1)", 10)).stdout == "21\n"
    assert (await sandbox.execute("_ + 1", 10)).stdout == "22\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("1 + 1", "2\n"),
        ("y = 5", ""),
        ("None", ""),
        ("3;", ""),
        ("4  # a comment", "4\n"),
        ("if True:\n    5", ""),
        ("print('a', end='')\n6", "a\n6\n"),
        ("for i in range(2):\n    print(i)", "0\n1\n"),
        ("", ""),
        ("'text'", "'text'\n"),
        (
            "from IPython.display import *\ndisplay(Math('x^2'), HTML('<b>7</b>'))",
            "x^2\n<b>7</b>\n",
        ),
        ("from IPython.display import *\nLatex('$42$')", "$42$\n"),
        ("len(str(10**20_000))", "20001\n"),
    ],
)
async def test_displays_as_jupyter_does(sandbox: Sandbox, code: str, shown: str) -> None:
    result = await sandbox.execute(code, 10)
    assert (result.status, result.stdout, result.stderr) == (ExecutionStatus.OK, shown, "")


async def test_no_side_effect_happens_twice(sandbox: Sandbox) -> None:
    await sandbox.execute("calls = []", 10)
    assert (await sandbox.execute("calls.append(1)", 10)).stdout == ""
    assert (await sandbox.execute("calls.append(2) or len(calls)", 10)).stdout == "2\n"


async def test_output_before_an_error_is_kept(sandbox: Sandbox) -> None:
    code = "import sys\nprint('before')\nprint('aside', file=sys.stderr)\n1/0"
    result = await sandbox.execute(code, 10)
    assert result.status is ExecutionStatus.ERROR
    assert result.stdout == "before\n"
    assert result.stderr == "aside\nline 4: 1/0\nZeroDivisionError: division by zero\n"


async def test_tracebacks_are_of_the_cell_only_and_short(sandbox: Sandbox) -> None:
    deep = await sandbox.execute("def f(n):\n    return f(n + 1)\nf(0)", 10)
    assert deep.error == "RecursionError"
    assert len(deep.stderr.splitlines()) < 10
    assert "line 2, in f: return f(n + 1)" in deep.stderr
    library = await sandbox.execute("import json\njson.loads('{')", 10)
    assert library.stderr.splitlines()[0] == "line 2: json.loads('{')"
    assert "site-packages" not in library.stderr
    assert "/lib/" not in library.stderr
    syntax = await sandbox.execute("1 +", 10)
    assert syntax.stderr == "line 1\n    1 +\n       ^\nSyntaxError: invalid syntax\n"
    long = await sandbox.execute("raise ValueError('z' * 10_000_000)", 10)
    assert long.error == "ValueError"
    assert 1_000 < len(long.stderr) < 5_000


async def test_odd_text(sandbox: Sandbox) -> None:
    result = await sandbox.execute(r"print('\ud800 \x1b[31mred\x1b[0m \x00 é'); '\udfff'", 10)
    assert result.status is ExecutionStatus.OK
    assert result.stdout == "\\ud800 red \x00 é\n'\\udfff'\n"
    error = await sandbox.execute(r"raise ValueError('\udc80')", 10)
    assert "ValueError: \\udc80" in error.stderr
    colours = await sandbox.execute("raise ValueError('\\x1b[31mred')", 10)
    assert "\x1b" not in colours.stderr


async def test_asking_for_input_is_an_error_that_keeps_the_state(sandbox: Sandbox) -> None:
    await sandbox.execute("x = 1", 10)
    for code in ("input('?')", "import getpass; getpass.getpass()"):
        result = await sandbox.execute(code, 10)
        assert result.status is ExecutionStatus.ERROR
        assert result.error == "StdinNotImplementedError"
    assert (await sandbox.execute("x", 10)).stdout == "1\n"


async def test_too_much_memory_is_an_error_that_keeps_the_state(sandbox: Sandbox) -> None:
    result = await sandbox.execute("x = 1\ny = bytearray(3 << 30)", 10)
    assert (result.status, result.error) == (ExecutionStatus.ERROR, "MemoryError")
    assert (await sandbox.execute("x", 10)).stdout == "1\n"


async def test_long_output_keeps_both_ends(sandbox: Sandbox) -> None:
    result = await sandbox.execute("for i in range(10_000): print(i)", 10)
    assert result.status is ExecutionStatus.OK
    assert result.truncated
    assert result.stdout.startswith("0\n1\n2\n")
    assert result.stdout.endswith("9998\n9999\n")
    assert "not shown ...]" in result.stdout
    assert len(result.stdout.encode()) <= 20_000


@pytest.mark.parametrize(
    "flood",
    [
        "while True: print('flood' * 200)",
        "print('x' * 100_000_000)",
        "while True:\n    try: print('flood' * 1000)\n    except Exception: pass",
        "!yes",
    ],
)
async def test_a_flood_is_stopped_early_and_bounded(sandbox: Sandbox, flood: str) -> None:
    await sandbox.execute("x = 7", 10)
    result = await sandbox.execute(flood, 20)
    assert result.status is ExecutionStatus.ERROR
    assert result.error in ("OutputLimitError", "KeyboardInterrupt")
    assert result.truncated
    assert result.output_bytes == MB
    assert len((result.stdout + result.stderr).encode()) <= 20_000
    assert (await sandbox.execute("x", 10)).stdout == "7\n"


@pytest.mark.parametrize(
    "code", ["'x' * 50_000_000", "from IPython.display import display\ndisplay('x' * 50_000_000)"]
)
async def test_a_huge_display_is_bounded(sandbox: Sandbox, code: str) -> None:
    result = await sandbox.execute(code, 20)
    assert result.status is ExecutionStatus.OK
    assert result.truncated
    assert len(result.stdout.encode()) <= 20_000


async def test_what_another_cell_prints_later_is_not_ours(sandbox: Sandbox) -> None:
    background = """
import threading, time
def later():
    time.sleep(0.3)
    print('late')
threading.Thread(target=later).start()"""
    assert (await sandbox.execute(background, 10)).stdout == ""
    result = await sandbox.execute("import time; time.sleep(0.8); print('mine')", 10)
    assert result.stdout.endswith("mine\n")


async def test_output_of_child_processes_is_heard(sandbox: Sandbox) -> None:
    assert (await sandbox.execute("!echo shell", 10)).stdout == "shell\n"
    code = "import os\nos.write(1, b'raw\\n')\nimport time; time.sleep(0.3)"
    assert (await sandbox.execute(code, 10)).stdout == "raw\n"
