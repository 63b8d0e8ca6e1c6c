"""Replays for real: the embedded model recorded in full, and then really run under other policies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from solver.journal.recorded_run import RecordedRun, load
from solver.replay.policy import Policy
from solver.replay.sweep import Replay
from solver.types import StopReason

EXAMPLES = Path(__file__).parents[2] / "examples" / "problems.csv"


def run(problems: Path, folder: Path, *flags: str) -> RecordedRun:
    command = [sys.executable, "-m", "solver.run", str(problems), "--run-dir", str(folder)]
    command += ["--output", f"{folder}.csv", "--quiet", *flags]
    subprocess.run(command, check=True, capture_output=True, timeout=150)
    return load(folder)


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "problems.csv"
    path.write_text("".join(EXAMPLES.read_text("utf-8").splitlines(keepends=True)[:4]))
    return path


@pytest.fixture(scope="module")
def recording(problems: Path) -> RecordedRun:
    flags = ("--launch", "8", "--keep", "4", "--record", "full", "--set", "record_marks=[16]")
    return run(problems, problems.parent / "full", *flags)


def test_everything_is_recorded(recording: RecordedRun) -> None:
    for record in recording.problems:
        ends = {t.trajectory.stop_reason for t in record.trajectories.values()}
        assert ends <= {StopReason.ANSWERED, StopReason.MAX_TOKENS, StopReason.MAX_TURNS}
        kinds = {(scored.scorer, scored.mark) for scored in record.scored}
        assert kinds == {(s, m) for s in ("stop", "stop+confidence", "reward") for m in (16, 32)}
        assert all(scored.error is None and scored.scores for scored in record.scored)
        [checked] = record.checks
        at_the_mark = next(s.scores for s in record.scored if (s.scorer, s.mark) == ("stop", 32))
        assert at_the_mark == pytest.approx(checked.scores, abs=1e-4)


@pytest.mark.parametrize(
    "flags",
    [
        ("--launch", "8", "--keep", "4"),
        ("--launch", "6", "--keep", "2", "--scorer", "confidence", "--mark", "48"),
        ("--launch", "5", "--keep", "3", "--scorer", "random", "--set", "vote.stop=off"),
        ("--launch", "7", "--keep", "3", "--set", "vote.rule=weighted"),
    ],
)
def test_a_replay_votes_as_the_run_does(
    flags: tuple[str, ...], problems: Path, recording: RecordedRun, tmp_path: Path
) -> None:
    real = run(problems, tmp_path / "real", *flags)
    policy = Policy.of(real.config)
    outcomes = Replay([recording]).session(0, policy, 0)
    for outcome, record in zip(outcomes, real.problems, strict=True):
        assert record.solved is not None
        assert (outcome.vote.answer, outcome.vote.counts) == (
            record.solved.answer,
            record.solved.votes,
        )
        assert outcome.vote.weights == pytest.approx(record.solved.weights, abs=1e-4)
        # a stop finds the others wherever the wall clock left them
        assert outcome.tokens == pytest.approx(record.solved.sampled_tokens, rel=0.05)
