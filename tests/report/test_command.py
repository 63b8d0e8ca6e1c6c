"""`python -m solver.report`, and the report at the end of a run."""

from __future__ import annotations

import shutil
from math import inf
from pathlib import Path
from typing import Any

import pytest

from solver.cli.python import python
from solver.report.__main__ import main
from solver.report.afterwards import report_line


def test_a_report(finished: Path, capsys: Any) -> None:
    assert main([str(finished)]) == 0
    assert capsys.readouterr().out == f"report: {finished / 'report.html'}\n"
    assert main([str(finished)]) == 0, "our own report is replaced"


def test_two_runs(finished: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    output = tmp_path / "two.html"
    assert main(["--compare", str(finished), str(other), "--output", str(output)]) == 0
    assert '"shared":3' in output.read_text()
    for copy in other.glob("problems.*"):  # another file, whose ids are line numbers as well
        copy.write_text(copy.read_text().replace("?", "!"))
    capsys.readouterr()
    assert main(["--compare", str(finished), str(other), "--output", str(output)]) == 2
    assert "have no problem in common" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one run folder"),
        (["RUN", "--compare", "RUN", "RUN"], "one run folder"),
        (["nowhere"], "nowhere is not a run folder"),
        (["RUN", "--output", "precious.txt"], "is no report"),
        (["RUN", "--output", "."], "is a folder"),
        (["RUN", "--output", "no/such/folder.html"], "cannot write"),
        (["RUN", "--serve", "--output", "x.html"], "leave out --output"),
        (["RUN", "--port", "70000"], "port"),
        (["RUN", "--port", "8000"], "--port is of --serve"),
    ],
)
def test_mistakes_are_one_line(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious.txt").write_text("mine")
    assert main([str(finished) if one == "RUN" else one for one in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_the_end_of_a_run(finished: Path) -> None:
    assert report_line(finished, inf) == f"report: {finished / 'report.html'}"
    assert (finished / "report.html").is_file()


def test_no_report_when_time_is_short(finished: Path) -> None:
    assert report_line(finished, 0.1) == f"report: {python()} -m solver.report {finished}"
    assert not (finished / "report.html").exists()


def test_a_report_that_fails_costs_one_line(finished: Path, tmp_path: Path) -> None:
    (finished / "report.html").mkdir()
    assert "cannot write" in report_line(finished, inf)
    (finished / "problems.csv").unlink()
    assert "lacks its copy of the problems" in report_line(finished, inf)
    assert report_line(tmp_path / "gone", inf).startswith("report: none, FileNotFoundError")
