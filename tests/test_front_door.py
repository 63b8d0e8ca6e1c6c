"""The solver for Python programs, on the real model and real kernels."""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from solver import Problem, Solver, load_config, solve
from solver.build import open_dialect
from solver.errors import InputError, ModelError
from solver.journal.events import Event, Sampled, Solved
from tests.support import byte_tokenizer

ROOT = Path(__file__).parents[1]
SMALL = load_config(
    sets=[
        "seed=5",
        "prune.launch=6",
        "prune.keep=3",
        "budget.problems_at_once=2",
        "model.threads=1",
    ]
)


def examples(count: int) -> list[Problem]:
    with (ROOT / "examples" / "problems.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    return [Problem(row["id"], row["problem"], int(row["answer"])) for row in rows]


def test_importing_it_takes_no_torch() -> None:
    program = (
        "import sys; from solver import Problem, Result, Solver, load_config, solve; load_config();"
        " assert not {'torch', 'transformers', 'vllm'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ImportError, match="Solvers"):
        exec("from solver import Solvers")


async def test_one_opening_serves_calls_of_every_kind() -> None:
    events: list[Event] = []
    first, second, third = examples(3)
    async with Solver(SMALL, on_event=events.append) as solver:
        alone = await solver.solve(first)
        assert (
            alone.problem is first and alone.right and alone.votes[alone.answer] <= alone.num_votes
        )
        assert alone.sampled_tokens == sum(
            len(e.token_ids) for e in events if isinstance(e, Sampled)
        )

        together = [result async for result in solver.solve_many([first, second, third])]
        assert {r.problem.id for r in together} == {first.id, second.id, third.id}
        again = next(result for result in together if result.problem is first)
        # how many votes were in when the outcome was certain is a matter of time
        assert again.answer == alone.answer, "company changes no answer"
        assert [e.problem_id for e in events if isinstance(e, Solved)][1:] == [
            result.problem.id for result in together
        ], "in the order of completion"

        by_statement = await asyncio.gather(
            solver.solve(second.statement), solver.solve(third.statement)
        )
        assert [len(result.problem.id) for result in by_statement] == [12, 12]
        assert all(result.right is None for result in by_statement)

        stream = solver.solve_many(examples(6))
        async for result in stream:
            assert result.num_votes
            break
        await stream.aclose()  # ends what is under way: the same problems can be given again
        assert (await solver.solve(first)).answer == alone.answer
    with pytest.raises(RuntimeError, match="closed"):
        await solver.solve(first)


async def test_a_problem_given_twice_is_refused() -> None:
    solver = Solver(SMALL)
    with pytest.raises(InputError, match="'x' is given twice"):
        async for _ in solver.solve_many([Problem("x", "1 + 1?"), Problem("x", "1 + 2?")]):
            pass


async def test_a_problem_whose_id_is_no_text_is_refused() -> None:
    solver = Solver(SMALL)
    with pytest.raises(InputError, match="a problem's id and statement are texts"):
        await solver.solve(Problem(1, "1 + 1?"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "[]"),
        ("chat_template.jinja", "{% for m in %}"),
        ("chat_template.jinja", "{{ raise_exception('only one turn') }}"),
        ("chat_template.jinja", "{{ messages[7].content }}"),
    ],
)
async def test_a_broken_tokenizer_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str
) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match="tokenizer in") as caught:
        open_dialect(load_config(sets=[f"model.path={tmp_path}"]), tmp_path)
    assert "\n" not in str(caught.value)


def test_an_interrupt_ends_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C reaches the thread that waits, not the one that solves."""
    ended: list[type[BaseException] | None] = []

    class Endless:
        def __init__(self, _: object) -> None: ...

        async def __aenter__(self) -> Endless:
            return self

        async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
            ended.append(kind)

        async def solve(self, _: object) -> None:
            later = asyncio.get_running_loop().call_later
            later(0.1, os.kill, os.getpid(), signal.SIGINT)  # once the caller waits
            await asyncio.Event().wait()

    monkeypatch.setattr("solver.api.Solver", Endless)
    with pytest.raises(KeyboardInterrupt):
        solve("1 + 1?", SMALL)
    assert ended == [asyncio.CancelledError]


async def test_a_model_that_is_not_there_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="/nowhere/at/all does not exist") as caught:
        async with Solver(load_config(sets=["model.path=/nowhere/at/all"])):
            pass
    assert "\n" not in str(caught.value)


async def test_solve_works_where_a_loop_runs_already() -> None:
    """A notebook's cell runs inside an event loop."""
    problem = examples(1)[0]
    assert solve(problem, SMALL).right


def test_the_example_runs() -> None:
    script = ROOT / "examples" / "solve.py"
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and "votes" in lines[0] and all("right" in line for line in lines[1:])
