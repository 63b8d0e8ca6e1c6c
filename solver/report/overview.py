"""What the first page says of one run, as plain JSON values: score, numbers, notices, charts, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from solver.config import SolverConfig
from solver.journal.summary import wilson_interval
from solver.report import charts
from solver.report.source import RunSource
from solver.report.views import ProblemRecord, RunRecord
from solver.scorers import gives_chances
from solver.types import Degradation, PruneReason

_NOTICES = 200  # lines of bad news; more than anybody reads
_ALWAYS = (
    "model.path", "model.engine", "prune.launch", "prune.keep", "prune.mark", "prune.scorer",
    "vote.stop", "sampling.temperature", "sampling.max_tokens", "budget.time_limit_s", "seed",
)  # fmt: skip


def overview(source: RunSource, *, live: bool) -> dict[str, Any]:
    """The run in numbers."""
    record, config = source.record, source.config
    graded = source.graded()
    return {
        "name": source.name,
        "folder": str(source.folder),
        "created": record.start.created if record.start else None,
        "state": _state(record, live=live),
        "score": _score(source),
        "numbers": _numbers(source),
        "notices": list(_notices(source))[:_NOTICES],
        "settings": [[key, value] for key, value in _settings(config)],
        "full": config.record == "full",
        "launch": config.prune.launch,
        "mark": config.prune.mark,
        "max_tokens": config.sampling.max_tokens,
        "limit": config.budget.time_limit_s,
        "total": len(source.problems),
        "curve": charts.accuracy_curve(graded),
        "judges": [_judge(scorer, graded) for scorer in _scorers(record, config)],
        "columns": charts.columns(record.problems.values()),
    }


def result(source: RunSource, name: str) -> dict[str, Any] | None:
    """How one problem stands in a run: a row of the table. None if it was not begun."""
    problem = source.record.problems.get(name)
    if problem is None:
        return None
    solved = problem.solved
    if solved is None:
        return {"open": 1}
    return {
        "a": str(solved.answer),
        "ok": source.is_right(name, solved.answer),
        "v": [[str(answer), count] for answer, count in solved.votes.items()],
        "w": [[str(answer), round(weight, 2)] for answer, weight in solved.weights.items()],
        "n": solved.num_votes,
        "margin": solved.margin,
        "early": int(solved.decided_early),
        "deg": solved.degraded,
        "tok": solved.sampled_tokens,
        "s": round(solved.elapsed_s, 2),
    }


def _state(record: RunRecord, *, live: bool) -> str:
    if record.interrupted and record.ended:
        return "interrupted"
    if record.ended:
        return "finished"
    return "under way" if live else "not ended"


def _score(source: RunSource) -> dict[str, Any] | None:
    """Right answers of those known; while a run goes on, of those that are solved."""
    verdicts = [
        source.is_right(name, problem.solved.answer)
        for name, problem in source.record.problems.items()
        if problem.solved is not None
    ]
    known = [verdict for verdict in verdicts if verdict is not None]
    asked = sum(problem.answer is not None for problem in source.problems.values())
    graded = asked if source.record.ended else len(known)
    if not graded:
        return None
    low, high = wilson_interval(sum(known), graded)
    return {"right": sum(known), "graded": graded, "low": low, "high": high}


def _numbers(source: RunSource) -> dict[str, Any]:
    records = source.record.problems.values()
    solved = [problem.solved for problem in records if problem.solved is not None]
    lanes = [lane for problem in records for lane in problem.lanes.values()]
    return {
        "solved": len(solved),
        "tokens": sum(one.sampled_tokens for one in solved),
        "elapsed": round(source.record.elapsed, 2),
        "degraded": sum(bool(one.degraded) for one in solved),
        "early": sum(one.decided_early for one in solved),
        "trajectories": len(lanes),
        "pruned": sum(len(problem.dropped) for problem in records),
        "calls": sum(len(lane.calls) for lane in lanes),
        "failed_calls": sum(call.status != "ok" for lane in lanes for call in lane.calls),
        "resumed": source.record.resumed,
    }


def _notices(source: RunSource) -> Iterator[dict[str, Any]]:
    """Bad news, the engine's first."""
    record = source.record
    for incident in record.incidents:
        yield {"kind": "engine", "text": incident.what, "t": incident.t, "line": incident.line}
    if record.unreadable:
        yield {
            "kind": "journal",
            "text": f"{record.unreadable} lines could not be read, the first is line"
            f" {record.first_unreadable}",
        }
    if record.start and source.decoder.missing:
        yield {"kind": "texts", "text": source.decoder.missing}
    for problem in record.problems.values():
        yield from _of_problem(problem)


def _of_problem(problem: ProblemRecord) -> Iterator[dict[str, Any]]:
    reasons = list(problem.solved.degraded) if problem.solved else []
    checked = problem.checked
    if not reasons and checked and checked.reason is PruneReason.FALLBACK_RANDOM:
        reasons = [Degradation.of_scorer(checked.method, checked.error).detail]
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


def _scorers(record: RunRecord, config: SolverConfig) -> list[str]:
    """Those that scored at the mark, the one that decided first."""
    deciding = config.prune.scorer
    others = {name for problem in record.problems.values() for name in problem.scored}
    return [deciding, *sorted(others - {deciding})]


def _judge(scorer: str, graded: Sequence[charts.Graded]) -> dict[str, Any]:
    """How well a scorer knew; `link` says how its scores would be read if they were chances."""
    found = charts.outcomes(graded, scorer)
    link = "share" if found and all(0 <= score <= 1 for score, _ in found) else None
    return {
        "scorer": scorer,
        "bins": charts.calibration(found),
        "scored": [len(found), charts.num_scored(graded, scorer)],
        "link": "logit" if gives_chances(scorer) else link,
    }
