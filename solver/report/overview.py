"""What the first page says of one run, as plain JSON values: score, numbers, notices, charts, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from solver.config import SolverConfig
from solver.journal.history import ProblemHistory, RunHistory
from solver.journal.summary import wilson_interval
from solver.report import charts
from solver.report.source import RunSource
from solver.scorers import gives_chances
from solver.types import Degradation, PruneReason

_NOTICES = 200  # lines of bad news; more than anybody reads
_ALWAYS = (
    "model.path", "model.engine", "prune.launch", "prune.keep", "prune.mark", "prune.scorer",
    "vote.stop", "sampling.temperature", "sampling.max_tokens", "budget.time_limit_s", "seed",
)  # fmt: skip


def overview(source: RunSource, *, live: bool) -> dict[str, Any]:
    """The run in numbers."""
    history, config = source.history, source.config
    graded = source.graded()
    return {
        "name": source.name,
        "folder": str(source.folder),
        "created": history.start.created if history.start else None,
        "state": _state(history, live=live),
        "score": _score(source),
        "numbers": _numbers(source),
        "notices": list(_notices(source))[:_NOTICES],
        "settings": [[key, value] for key, value in _settings(config)],
        "full": config.record == "full",
        "launch": config.prune.launch,
        "marks": [check.mark for check in config.prune.checks],
        "max_tokens": config.sampling.max_tokens,
        "limit": config.budget.time_limit_s,
        "total": len(source.problems),
        "curve": charts.accuracy_curve(graded),
        "judges": list(_judges(history, config, graded)),
        "columns": charts.columns(history.problems.values()),
    }


def result(source: RunSource, name: str) -> dict[str, Any] | None:
    """How one problem stands in a run: a row of the table. None if it was not begun."""
    problem = source.history.problems.get(name)
    if problem is None:
        return None
    solved = problem.solved
    if solved is None:
        return {"open": 1}
    return {
        "a": str(solved.answer),
        "ok": source.is_right(name, solved.answer),
        "v": [[str(answer), count] for answer, count in solved.votes.items()],
        "w": [[str(answer), round(weight, 4)] for answer, weight in solved.weights.items()],
        "n": solved.num_votes,
        "margin": solved.margin,
        "early": int(solved.decided_early),
        "deg": solved.degraded,
        "tok": solved.sampled_tokens,
        "s": round(solved.elapsed_s, 2),
    }


def _state(history: RunHistory, *, live: bool) -> str:
    if history.end is not None:
        return "interrupted" if history.end.interrupted else "finished"
    return "under way" if live else "not ended"


def _score(source: RunSource) -> dict[str, Any] | None:
    """Right answers of those known; while a run goes on, of those that are solved."""
    verdicts = [
        source.is_right(name, problem.solved.answer)
        for name, problem in source.history.problems.items()
        if problem.solved is not None
    ]
    known = [verdict for verdict in verdicts if verdict is not None]
    asked = sum(problem.answer is not None for problem in source.problems.values())
    graded = asked if source.history.end is not None else len(known)
    if not graded:
        return None
    low, high = wilson_interval(sum(known), graded)
    return {"right": sum(known), "graded": graded, "low": low, "high": high}


def _numbers(source: RunSource) -> dict[str, Any]:
    records = source.history.problems.values()
    solved = [problem.solved for problem in records if problem.solved is not None]
    lanes = [lane for problem in records for lane in problem.trajectories.values()]
    asked = [(problem.id, answer) for problem in records for answer in problem.asked.values()]
    return {
        "solved": len(solved),
        "tokens": sum(one.sampled_tokens for one in solved),
        "elapsed": round(source.history.elapsed, 2),
        "degraded": sum(bool(one.degraded) for one in solved),
        "early": sum(one.decided_early for one in solved),
        "trajectories": len(lanes),
        "pruned": sum(len(problem.dropped) for problem in records),
        "calls": sum(len(lane.calls) for lane in lanes),
        "failed_calls": sum(call.status != "ok" for lane in lanes for call in lane.calls),
        "asked": len(asked),
        "asked_answered": sum(answer is not None for _, answer in asked),
        "asked_right": sum(
            answer is not None and source.is_right(name, answer) is True for name, answer in asked
        ),
        "resumed": source.history.num_resumed,
    }


def _notices(source: RunSource) -> Iterator[dict[str, Any]]:
    """Bad news, the engine's first."""
    history, reader = source.history, source.reader
    for incident in history.incidents:
        yield {"kind": "engine", "text": incident.what, "t": incident.t, "line": incident.line}
    if reader.damaged:
        text = f"{reader.damaged} lines could not be read, the first is line {reader.first_damaged}"
        yield {"kind": "journal", "text": text}
    if reader.skipped:
        text = f"{reader.skipped} events are of a newer version: update stop-solver to see them"
        yield {"kind": "journal", "text": text}
    if history.start and source.decoder.missing:
        yield {"kind": "texts", "text": source.decoder.missing}
    for problem in history.problems.values():
        yield from _of_problem(problem)


def _of_problem(problem: ProblemHistory) -> Iterator[dict[str, Any]]:
    reasons = list(problem.solved.degraded) if problem.solved else []
    if not reasons:
        failed = [one for one in problem.checks if one.reason is PruneReason.FALLBACK_RANDOM]
        details = (Degradation.of_scorer(one.method, one.error).detail for one in failed)
        reasons = list(dict.fromkeys(details))
    if reasons:
        yield {"kind": "degraded", "id": problem.id, "text": "; ".join(reasons)}


def _settings(config: SolverConfig) -> Iterator[tuple[str, object]]:
    """What a reader asks for first, then whatever is not the default."""
    values, defaults = dict(_flat(config.model_dump())), dict(_flat(SolverConfig().model_dump()))
    for key in _ALWAYS:
        yield key, values[key]
    for key, value in values.items():
        if key not in _ALWAYS and value != defaults.get(key):
            yield key, value


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _scorers(history: RunHistory, config: SolverConfig, mark: int) -> list[str]:
    """Those that scored at `mark`, the one that decides there first."""
    deciding = config.prune.scorer
    scored = (one for problem in history.problems.values() for one in problem.scored)
    others = {one.scorer for one in scored if one.mark == mark}
    return [deciding, *sorted(others - {deciding})]


def _judges(
    history: RunHistory, config: SolverConfig, graded: Sequence[charts.Graded]
) -> Iterator[dict[str, Any]]:
    """How well each scorer knew at each mark, and the last check at the end."""
    for mark, _ in config.prune.checks:
        for scorer in _scorers(history, config, mark):
            yield _judge(scorer, graded, mark)
    if found := charts.verified(graded):
        yield {
            "scorer": "last check",
            "bins": charts.calibration(found),
            "scored": [len(found), len(found)],
            "link": "logit",
            "end": 1,
        }


def _judge(scorer: str, graded: Sequence[charts.Graded], mark: int) -> dict[str, Any]:
    """How well a scorer knew; `link` says how its scores would be read if they were chances."""
    found = charts.outcomes(graded, scorer, mark)
    link = "share" if found and all(0 <= score <= 1 for score, _ in found) else None
    return {
        "scorer": scorer,
        "mark": mark,
        "bins": charts.calibration(found),
        "scored": [len(found), charts.num_scored(graded, scorer, mark)],
        "link": "logit" if gives_chances(scorer) else link,
    }
