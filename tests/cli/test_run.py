"""The command from flags to files, with a session that needs no model."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from solver.files.problems import load_problems
from solver.journal.reader import read_journal
from solver.journal.summary import summarize
from solver.journal.writer import JournalWriter
from solver.run import main
from tests.support.journals import run_history

ANSWERS = "id,answer\na,1\nb,2\nc,3\n"


def cut_after_first_answer(run: Path, torn: bytes = b"") -> None:
    """Make the journal what a kill just after the first answer leaves."""
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if b'"type":"solved"' in line)
    (run / "journal.jsonl").write_bytes(b"".join(lines[: first + 1]) + torn)
    (run / "summary.json").unlink()
    (run / "answers.csv").unlink()


def test_a_run(folder: Path, problems: Path, stubs: Any, capsys: Any) -> None:
    assert main([str(problems), "--run-dir", "run", "--launch", "12", "--seed", "3"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    lines = output.out.splitlines()
    assert lines[0] == "[1/3] a: 1 (8 of 8), right, 2 tokens, 0.5 s"
    assert lines[2] == "[3/3] c: 3 (8 of 8), wrong, 2 tokens, 0.5 s"
    assert lines[3] == "score: 2 of 3 right (66.7%, 95% interval 20.8% to 93.8%)"
    assert lines[4].startswith("tokens: 6 sampled in ")
    assert lines[5].startswith("isolation: ")
    assert lines[6:] == [
        "run folder: run",
        f"answers: {folder / 'answers.csv'}",
        "report: run/report.html",
    ]

    run = folder / "run"
    assert (folder / "answers.csv").read_text() == ANSWERS
    assert (run / "answers.csv").read_text() == ANSWERS
    assert (run / "problems.csv").read_bytes() == problems.read_bytes()
    config = json.loads((run / "config.json").read_text())
    assert (config["prune"]["launch"], config["prune"]["keep"], config["seed"]) == (12, 8, 3)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["num_correct"] == 2 and summary["launch"] == 12
    journal = read_journal(run / "journal.jsonl")
    assert journal.events[0].type == "run_started"
    assert journal.events[0].engine["name"] == "stub"
    assert journal.events[-1].type == "run_ended"
    assert summary == json.loads(
        summarize(run_history(journal.events), _problems(run)).model_dump_json()
    )


def test_default_folders(folder: Path, problems: Path, stubs: Any) -> None:
    assert main([str(problems), "--quiet"]) == 0
    (run,) = (folder / "runs").iterdir()
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "command.json",
        "problems.csv",
        "journal.jsonl",
        "answers.csv",
        "summary.json",
        "report.html",
    }


def test_quiet_prints_the_result_only(problems: Path, stubs: Any, capsys: Any) -> None:
    assert main([str(problems), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("score: ")


def test_without_answers_there_is_no_score(folder: Path, stubs: Any, capsys: Any) -> None:
    (folder / "p.jsonl").write_text('{"id": 7, "statement": "strange [red] 5"}\n')
    assert main(["p.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "score" not in out
    assert "degraded: outside of what it knows" in out
    assert "--model PATH" in out


def test_a_selection_of_a_published_file(folder: Path, stubs: Any, capsys: Any) -> None:
    rows = [{"question": f"say {n}", "answer": f"So.\n#### {n}"} for n in (1, 2, 200_000, 4)]
    (folder / "gsm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = ["gsm.jsonl", "--ids", "1,3,4", "--shuffle", "5", "--limit", "2"]
    assert main([*chosen, "--run-dir", "run", "--quiet"]) == 0
    output = capsys.readouterr()
    assert output.err.startswith("1 of 2 problems are solved and not scored")
    assert output.err.count("\n") == 1
    copied = load_problems(folder / "run/problems.jsonl")
    assert len(copied) == 2 and {problem.id for problem in copied} <= {"1", "3", "4"}
    again = ["--resume", "run", "--quiet"]
    assert main([*chosen, *again]) == 0 and main(again) == 0
    assert main([*chosen[:-1], "3", *again]) == 2
    assert "is not the problems file of run" in capsys.readouterr().err
    assert main(["--limit", "2", *again]) == 2
    assert "give it too" in capsys.readouterr().err


def test_the_run_config_makes_the_same_run(folder: Path, problems: Path, stubs: Any) -> None:
    assert main([str(problems), "--run-dir", "one", "--launch", "9", "--seed", "4"]) == 0
    again = ["--run-dir", "two", "--config", "one/config.json", "--force"]
    assert main([str(problems), *again]) == 0
    assert (folder / "one/config.json").read_text() == (folder / "two/config.json").read_text()


class TestResume:
    @pytest.fixture(autouse=True)
    def run(self, folder: Path, problems: Path, stubs: Any, capsys: Any) -> Path:
        assert main([str(problems), "--run-dir", "run"]) == 0
        stubs.solved.clear()
        capsys.readouterr()
        return folder / "run"

    @pytest.mark.parametrize("torn", [b"", b'{"t":1.0,"type":"samp'])
    def test_goes_on_where_the_journal_ends(
        self, torn: bytes, run: Path, folder: Path, stubs: Any, capsys: Any
    ) -> None:
        cut_after_first_answer(run, torn)
        (folder / "answers.csv").unlink()
        assert main(["--resume", "run", "--time-limit", "60s"]) == 0
        assert stubs.solved == ["b", "c"]
        assert (folder / "answers.csv").read_text() == ANSWERS
        output = capsys.readouterr()
        assert output.out.splitlines()[0].startswith("[2/3] b: 2")
        assert ("torn" in output.err) == bool(torn)
        events = read_journal(run / "journal.jsonl").events
        assert [event.problem_id for event in events if event.type == "solved"] == ["a", "b", "c"]
        assert [event.type for event in events].count("run_resumed") == 1
        assert json.loads((run / "summary.json").read_text())["num_correct"] == 2

    def test_a_finished_run_prints_its_result_again(
        self, run: Path, folder: Path, stubs: Any, capsys: Any
    ) -> None:
        journal = (run / "journal.jsonl").read_bytes()
        assert main(["--resume", "run"]) == 0
        assert capsys.readouterr().out.startswith("score: 2 of 3 right")
        assert stubs.loads == 1
        assert (run / "journal.jsonl").read_bytes() == journal

    def test_a_kill_before_the_results_were_written(
        self, run: Path, folder: Path, stubs: Any
    ) -> None:
        for path in (run / "answers.csv", run / "summary.json", folder / "answers.csv"):
            path.unlink()
        assert main(["--resume", "run"]) == 0
        assert (folder / "answers.csv").read_text() == ANSWERS
        assert (run / "summary.json").exists()

    def test_a_kill_while_the_model_was_loading(self, run: Path, folder: Path, stubs: Any) -> None:
        (run / "journal.jsonl").write_bytes(b"")
        assert main(["--resume", "run"]) == 0
        assert stubs.solved == ["a", "b", "c"]
        assert read_journal(run / "journal.jsonl").events[0].type == "run_started"

    def test_the_problems_file_may_be_gone_or_given_again(
        self, run: Path, problems: Path, stubs: Any
    ) -> None:
        cut_after_first_answer(run)
        (run / "answers.csv").write_text(ANSWERS)
        assert main([str(problems), "--resume", "run", "--launch", "24"]) == 0
        problems.unlink()
        assert main(["--resume", "run"]) == 0


def test_answers_go_where_the_run_meant_them(
    folder: Path, problems: Path, stubs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(problems), "--run-dir", "run", "--output", "mine.csv"]) == 0
    cut_after_first_answer(folder / "run")
    (folder / "mine.csv").unlink()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["--resume", str(folder / "run")]) == 0
    assert (folder / "mine.csv").read_text() == ANSWERS
    assert not list((folder / "elsewhere").iterdir())


def test_a_full_disk_costs_the_journal_not_the_run(
    folder: Path, problems: Path, stubs: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_full_disk(path: Path, on_failure: Callable[[str], None]) -> JournalWriter:
        return JournalWriter(Path("/dev/full"), on_failure)

    monkeypatch.setattr("solver.runs.folder.JournalWriter", on_full_disk)
    assert main([str(problems), "--run-dir", "run"]) == 0
    assert (folder / "answers.csv").read_text() == ANSWERS
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "No space left" in errors


def start(command: list[str], environment: dict[str, str], delay_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"STUB_DELAY_S": str(delay_s), "PYTHONUNBUFFERED": "1"},
    )


def test_serve_shows_the_run_while_it_goes_on(
    folder: Path, problems: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    arguments = [str(problems), "--run-dir", "run", "--serve"]
    process = start([*stub_command, *arguments], environment, 0.5)
    assert process.stdout is not None
    said, url = process.stdout.readline().split(": ")
    assert said == "live report" and url.startswith("http://127.0.0.1:")
    assert process.stdout.readline().startswith("[1/3] a")
    with urlopen(f"{url.strip()}data.json", timeout=10) as answer:
        shown = json.load(answer)
    assert shown["runs"][0]["state"] == "under way"
    assert shown["problems"][0]["r"][0]["a"] == "1"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("report: run/report.html\n")


def test_a_port_that_is_taken_costs_nothing(
    folder: Path, problems: Path, stubs: Any, capsys: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main([str(problems), "--run-dir", "run", "--serve", "--port", port]) == 2
    assert "cannot serve on port" in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_ctrl_c_writes_everything_and_can_be_resumed(
    folder: Path, problems: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    process = start([*stub_command, str(problems), "--run-dir", "run"], environment, 0.5)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("[1/3] a")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "stopping: voting on the finished trajectories" in out
    assert "interrupted: go on with --resume run" in out
    assert (folder / "answers.csv").read_text() == "id,answer\na,1\nb,0\nc,0\n"
    summary = json.loads((folder / "run/summary.json").read_text())
    assert summary["interrupted"] and set(summary["degraded"]) == {"b", "c"}

    process = start([*stub_command, "--resume", "run"], environment, 0)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "[2/3] b" in out and "[1/3]" not in out
    assert (folder / "answers.csv").read_text() == ANSWERS


def test_a_second_ctrl_c_leaves_at_once(
    folder: Path, problems: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    process = start([*stub_command, str(problems), "--run-dir", "run"], environment, 30)
    while (
        not (folder / "run/journal.jsonl").exists()
        or not (folder / "run/journal.jsonl").stat().st_size
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("stopping")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err and "--resume" in err
    assert not (folder / "answers.csv").exists()


def test_a_kill_and_a_resume(
    folder: Path, problems: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    process = start([*stub_command, str(problems), "--run-dir", "run"], environment, 3)
    assert process.stdout is not None
    process.stdout.readline()
    busy = start([*stub_command, "--resume", "run"], environment, 0)
    _, err = busy.communicate(timeout=60)
    assert (busy.returncode, err) == (2, "error: run is in use by a run that has not ended\n")
    process.kill()
    process.communicate(timeout=60)
    process = start([*stub_command, "--resume", "run"], environment, 0)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (folder / "answers.csv").read_text() == ANSWERS


def test_start_up_counts(
    folder: Path, problems: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    began = time.monotonic()
    process = start([*stub_command, str(problems), "--run-dir", "run"], environment, 0)
    process.communicate(timeout=60)
    took = time.monotonic() - began
    last = read_journal(folder / "run/journal.jsonl").events[-1]
    assert 0.05 < last.t <= took + 0.05


def test_strange_terminals(
    folder: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    (folder / "p.csv").write_text("id,problem\n🙂[red],say 1\n", encoding="utf-8")
    ascii_only = environment | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = start([*stub_command, "p.csv", "--run-dir", "run"], ascii_only, 0)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "[red]: 1 (8 of 8)" in out


def test_a_reader_that_goes_away(
    folder: Path, problems: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    process = start([*stub_command, str(problems), "--run-dir", "run"], environment, 0.1)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    assert (folder / "answers.csv").read_text() == ANSWERS


def _problems(run: Path) -> list[Any]:
    return load_problems(run / "problems.csv")


def test_when_the_model_is_not_loaded_in_time_every_row_is_there(
    folder: Path, problems: Path, stubs: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_LOADING_S", "1000")
    flags = ["--time-limit", "0.1s", "--set", "answer.fallback=7"]
    assert main([str(problems), "--run-dir", "run", *flags]) == 0
    assert (folder / "answers.csv").read_text() == "id,answer\na,7\nb,7\nc,7\n"
    output = capsys.readouterr().out
    assert output.count("degraded: no time: the model was still loading; no vote: fallback") == 3
    assert "degraded: 3 of 3 answers" in output
    journal = read_journal(folder / "run" / "journal.jsonl")
    assert [event.type for event in journal.events] == ["run_started", *["solved"] * 3, "run_ended"]
    assert stubs.loads == 1


def test_a_command_that_loads_for_ever_ends_at_its_limit(
    folder: Path, problems: Path, stub_command: list[str], environment: dict[str, str]
) -> None:
    ended = subprocess.run(
        [*stub_command, str(problems), "--run-dir", "run", "--time-limit", "2s"],
        env=environment | {"STUB_LOADING_S": "1000"}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "answers: " in ended.stdout
    assert len((folder / "answers.csv").read_text().splitlines()) == 4
