from __future__ import annotations

import re
from pathlib import Path

import pytest

from solver.config import SolverConfig
from solver.errors import ConfigError, InputError
from solver.journal.events import Ended, RunEnded, RunStarted, Solved
from solver.journal.summary import summarize
from solver.journal.writer import JournalWriter
from solver.stop.__main__ import main
from solver.stop.plan import SweepRun, best_points, parse_tokens, read_run
from solver.types import Problem, StopReason
from tests.support.journals import run_history


def test_the_papers_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--budget-tokens", "158k", "--prefix", "2048", "--length", "8650"]) == 0
    said = capsys.readouterr().out
    assert "1/gamma 9.63" in said
    assert re.search(r"launch \d+, keep \d+", said)
    assert "warning" not in said


def test_outside_the_fitted_range_it_warns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--budget-tokens", "5k", "--prefix", "36", "--length", "150"]) == 0
    said = capsys.readouterr().out
    assert "clipped to 32" in said
    assert said.count("warning: the ") == 3


@pytest.mark.parametrize(
    ("text", "tokens"), [("8650", 8650), ("158k", 158 * 1024), ("1.5M", 1.5 * 1024**2)]
)
def test_tokens(text: str, tokens: float) -> None:
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "k", "12kk", "-3", "1e5", "ten"])
def test_not_tokens(text: str) -> None:
    with pytest.raises(ConfigError, match="158k"):
        parse_tokens(text)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--prefix", "2048", "--length", "2048"]
    assert main(["plan", "--budget-tokens", "158k", *flags]) == 2
    assert "shorter than a trajectory" in capsys.readouterr().err
    flags = ["--prefix", "1", "--length", "2", "--fit", str(tmp_path)]
    assert main(["plan", "--budget-tokens", "158k", *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "summary.json").write_text("{}")
    assert main(["plan", "--budget-tokens", "158k", *flags]) == 2
    error = capsys.readouterr().err
    assert "summary.json is damaged: " in error and error.count("\n") == 1


def a_run(folder: Path, *, launch: int, keep: int, mark: int, length: int, correct: int) -> Path:
    """The folder of a run over four problems, as `solver.run` leaves it."""
    folder.mkdir()
    settings = {"launch": launch, "keep": keep, "mark": mark, "scorer": "confidence"}
    config = SolverConfig.model_validate(
        {"prune": settings, "sampling": {"max_tokens": 100_000}, "model": {"path": "m"}}
    )
    problems = [Problem(str(n), "1+1?", 2) for n in range(4)]
    started = RunStarted(
        created="", config=config, problem_ids=[p.id for p in problems], problems_sha256="x"
    )
    cost = launch * mark + keep * (length - mark)
    events = [started]
    for number, problem in enumerate(problems):
        events += [
            Ended(
                problem_id=problem.id,
                index=0,
                stop_reason=StopReason.ANSWERED,
                num_sampled_tokens=length,
                answer=2,
            ),
            Ended(
                problem_id=problem.id,
                index=1,
                stop_reason=StopReason.PRUNED,
                num_sampled_tokens=mark,
            ),
            Solved(
                problem_id=problem.id,
                answer=2 if number < correct else 3,
                votes={2: 1},
                num_votes=1,
                margin=1,
                tied=False,
                decided_early=False,
                elapsed_s=1.0,
                sampled_tokens=cost,
                reused_tokens=0,
                encoded_tokens=0,
                degraded=[],
            ),
        ]
    events.append(RunEnded())
    journal = JournalWriter(folder / "journal.jsonl", on_failure=pytest.fail)
    for event in events:
        journal.record(event)
    journal.close()
    summary = summarize(run_history(events), problems)
    (folder / "summary.json").write_text(summary.model_dump_json())
    return folder


def test_reading_a_run(tmp_path: Path) -> None:
    run = read_run(a_run(tmp_path / "a", launch=24, keep=8, mark=30, length=130, correct=3))
    assert run.budget_tokens == 24 * 30 + 8 * 100
    assert (run.prefix, run.length, run.accuracy) == (30, 130, 0.75)
    assert run.gamma == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="not the folder of a finished run"):
        read_run(tmp_path)


def test_a_sweep_is_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for mark in (100, 400):
        for length in (1500, 3000):
            for launch, keep in ((8, 8), (16, 4), (64, 8)):
                folder = tmp_path / f"{mark}-{length}-{launch}"
                settings = {"launch": launch, "keep": keep, "mark": mark, "length": length}
                folders += ["--fit", str(a_run(folder, **settings, correct=3))]
    flags = ["--prefix", "200", "--length", "2000", *folders]
    assert main(["plan", "--budget-tokens", "30k", *flags]) == 0
    assert "fitted law: 1/gamma = " in capsys.readouterr().out
    assert main(["plan", "--budget-tokens", "30k", *flags[:8]]) == 2
    assert "no law can be fitted" in capsys.readouterr().err


def test_of_one_budget_the_most_accurate_counts() -> None:
    def run(gamma: float, accuracy: float, budget: float = 1000, group: str = "g") -> SweepRun:
        return SweepRun(group, budget, 30, 130, gamma, accuracy)

    points = best_points([run(1, 0.5), run(0.5, 0.7, 1010), run(0.25, 0.7), run(0.1, 0.6)])
    assert [point.gamma for point in points] == [0.25]
    assert len(best_points([run(1, 0.5), run(1, 0.5, 2000), run(1, 0.5, group="h")])) == 3
