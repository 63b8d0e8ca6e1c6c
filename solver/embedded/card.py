"""The measured part of MODEL_CARD.md, a pure function of a run in which every trajectory finished."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from solver.errors import InputError
from solver.files.tables import markdown_table, percent
from solver.journal.events import RunStarted
from solver.journal.history import ProblemHistory
from solver.journal.recorded_run import ProblemReader
from solver.policy.statistics import mean_interval
from solver.policy.vote import vote
from solver.types import Ballot, Problem, StopReason

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_SYNTAX = re.compile(r"\b(SyntaxError|IndentationError|TabError)\b")


@dataclass(slots=True)
class Measured:
    """The results of one problem's rollouts; `ballots` has one entry a trajectory."""

    problem: Problem
    ballots: list[Ballot] = field(default_factory=list)
    cells: int = 0
    readable_cells: int = 0

    @property
    def one_sample(self) -> float:
        """Share of trajectories that are right."""
        return sum(b.answer == self.problem.answer for b in self.ballots) / len(self.ballots)

    @property
    def by_vote(self) -> float:
        """1 if the majority of all trajectories is right."""
        return float(vote(self.ballots).answer == self.problem.answer)

    @property
    def best(self) -> float:
        """1 if any trajectory is right."""
        return float(self.one_sample > 0)


def measure(run: Path) -> tuple[RunStarted, list[Measured]]:
    """Read a run folder. Raises `InputError` unless all trajectories finished and answers are known."""
    reader = ProblemReader(run)
    start = reader.start
    if start.config.prune.scorer != "none" or start.config.vote.stop != "off":
        raise InputError(f"{run}: the card needs --scorer none --set vote.stop=off")
    measured = {p.id: Measured(p) for p in reader.problems}
    if any(one.problem.answer is None for one in measured.values()):
        raise InputError(f"{run}: the card needs problems with known answers")
    for history in reader:
        _take(history, measured[history.id])
    unsolved = [name for name, one in measured.items() if not one.ballots]
    if unsolved:
        raise InputError(f"{run}: {len(unsolved)} problems are not solved yet; go on with --resume")
    return start, list(measured.values())


def _take(history: ProblemHistory, one: Measured) -> None:
    ended = (t for t in history.trajectories.values() if t.ended is not None)
    one.ballots += [t.ballot for t in ended if t.stop_reason is not StopReason.MARK]
    for trajectory in history.trajectories.values():
        for turn in trajectory.trajectory.turns:
            if turn.execution is not None:
                text = turn.execution.stdout + turn.execution.stderr
                one.cells += 1
                one.readable_cells += not _SYNTAX.search(text)


def render(start: RunStarted, measured: Sequence[Measured]) -> str:
    """Markdown of the measured part."""
    rows: dict[str, list[Measured]] = {"**all**": list(measured)}
    by_kind: dict[str, list[Measured]] = defaultdict(list)
    by_family: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        by_kind[f"**{one.problem.tags['kind']}**"].append(one)
        by_family[f"{one.problem.tags['family']} ({one.problem.tags['kind']})"].append(one)
    rows |= dict(sorted(by_kind.items())) | dict(sorted(by_family.items()))
    launch = start.config.prune.launch
    tokens = sorted(b.num_sampled_tokens for one in measured for b in one.ballots)
    cells = sum(one.cells for one in measured)
    readable = sum(one.readable_cells for one in measured)
    lines = [
        f"{len(measured)} test problems x {launch} trajectories, seed {start.config.seed},"
        f" temperature {start.config.sampling.temperature:g}. Percent, with 95 % bootstrap intervals"
        " over problems.",
        "",
        *markdown_table(
            ["problems", "num", "one sample", f"vote of {launch}", f"best of {launch}"],
            [_row(name, some) for name, some in rows.items()],
        ),
        "",
        f"Code cells that run without a syntax error: {readable / cells:.2%} of {cells:,}."
        f" Sampled tokens a trajectory: median {tokens[len(tokens) // 2]},"
        f" {tokens[len(tokens) // 2] / start.config.prune.mark:.1f} times the mark"
        f" ({start.config.prune.mark}).",
    ]
    return "\n".join(lines)


def _row(name: str, some: Sequence[Measured]) -> list[str]:
    columns = (
        [one.one_sample for one in some],
        [one.by_vote for one in some],
        [one.best for one in some],
    )
    return [name, str(len(some)), *(percent(mean_interval(column)) for column in columns)]


def fill(card: Path, text: str) -> None:
    """Put `text` between the card's markers."""
    old = card.read_text("utf-8")
    head, rest = old.split(_BEGIN)
    tail = rest.split(_END)[1]
    card.write_text(f"{head}{_BEGIN}\n{text}\n{_END}{tail}", "utf-8")
