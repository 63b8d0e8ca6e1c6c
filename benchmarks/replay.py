"""Compares replayed policies with real runs on this machine:

    python -m benchmarks.replay [--num 30] [--rounds 2]

Each round records the problems in full and then really runs five policies on them. The policies are
replayed on the first recording, the clock is fitted to all of them. Target: the accuracy that was
measured lies in the replay's interval, and the time of the problems within 15 %.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import typer

from solver.config import VoteConfig
from solver.journal.recorded_run import RecordedRun, load
from solver.journal.summary import is_correct
from solver.replay.fit import fit_speeds
from solver.replay.policy import Policy
from solver.replay.sweep import Replay, Row, sweep
from solver.replay.table import speeds_lines
from solver.types import Check

EXAMPLES = Path(__file__).parents[1] / "examples" / "problems.csv"
POLICIES = (
    Policy(24, (Check(32, 8),), "stop", VoteConfig()),
    Policy(16, (Check(32, 8),), "stop", VoteConfig()),
    Policy(16, (Check(48, 4),), "confidence", VoteConfig()),
    Policy(24, (Check(32, 8),), "random", VoteConfig(stop="certain")),
    Policy(8, (Check(32, 8),), "none", VoteConfig(stop="off")),
)


def run(problems: Path, folder: Path, policy: Policy, *flags: str) -> RecordedRun:
    """Run the command as users do."""
    sets = [f"vote.stop={policy.vote.stop}"]
    command = [
        *(sys.executable, "-m", "solver.run", str(problems), "--quiet"),
        *("--launch", str(policy.launch), "--keep", str(policy.checks[0].keep)),
        *("--mark", str(policy.checks[0].mark), "--scorer", policy.scorer, "--set", sets[0]),
        *("--run-dir", str(folder), "--output", f"{folder}.csv", *flags),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return load(folder)


def accuracy(recording: RecordedRun) -> float:
    known = [p for p in recording.problems if p.problem.answer is not None]
    modulus = recording.config.answer.modulus
    return mean(
        p.solved is not None and is_correct(p.solved.answer, p.problem, modulus) for p in known
    )


def seconds(recording: RecordedRun) -> float:
    return sum(p.solved.elapsed_s for p in recording.problems if p.solved is not None)


def tokens(recording: RecordedRun) -> int:
    return sum(p.solved.sampled_tokens for p in recording.problems if p.solved is not None)


def same_answers(replay: Replay, policy: Policy, real: RecordedRun) -> tuple[int, int]:
    """How many problems have the very votes of the run, of how many."""
    outcomes = replay.session(0, policy, 0)
    pairs = list(zip(outcomes, real.problems, strict=True))
    return sum(p.solved is not None and o.vote.counts == p.solved.votes for o, p in pairs), len(
        pairs
    )


def report(policy: Policy, row: Row, replay: Replay, reals: list[RecordedRun]) -> bool:
    outcomes = replay.session(0, policy, 0)
    simulated = sum(outcome.seconds for outcome in outcomes)
    measured = mean(seconds(real) for real in reals)
    same, num = same_answers(replay, policy, reals[0])
    assert row.accuracy is not None
    low, high = row.accuracy.low, row.accuracy.high
    got = accuracy(reals[0])
    good = low <= got <= high and abs(simulated / measured - 1) <= 0.15
    print(
        f"{policy.launch:>2} -> {policy.checks[0].keep} at {policy.checks[0].mark} by {policy.scorer:<10}"
        f" stop {policy.vote.stop:<9} | votes equal {same}/{num} | accuracy {got:.1%} in"
        f" [{low:.1%}, {high:.1%}] | tokens {sum(o.tokens for o in outcomes) / tokens(reals[0]):.3f}"
        f" | time {simulated:.1f} s simulated, {' '.join(f'{seconds(r):.1f}' for r in reals)} s"
        f" measured: {simulated / measured:.2f} | {'ok' if good else 'MISSED'}"
    )
    return good


def main(num: int = 30, rounds: int = 2, problems: Path = EXAMPLES) -> None:
    with TemporaryDirectory() as folder:
        chosen = Path(folder) / "problems.csv"
        lines = problems.read_text("utf-8").splitlines(keepends=True)
        chosen.write_text("".join(lines[: num + 1]), "utf-8")
        recordings: list[RecordedRun] = []
        reals: dict[Policy, list[RecordedRun]] = {policy: [] for policy in POLICIES}
        for turn in range(rounds):
            place = Path(folder) / f"full{turn}"
            recordings.append(run(chosen, place, POLICIES[0], "--record", "full"))
            for number, policy in enumerate(POLICIES):
                place = Path(folder) / f"real{turn}-{number}"
                reals[policy].append(run(chosen, place, policy))
        replay = Replay(recordings[:1], fit_speeds(recordings))
        print("\n".join(speeds_lines(replay.speeds)))
        rows = sweep(replay, [replace(policy, limit_s=None) for policy in POLICIES])
        good = [
            report(policy, row, replay, reals[policy])
            for policy, row in zip(POLICIES, rows, strict=True)
        ]
        print(f"{sum(good)} of {len(good)} policies: accuracy in the interval and time within 15 %")


if __name__ == "__main__":
    typer.run(main)
