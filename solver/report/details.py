"""The page of one problem in one run: statement, lanes, traces; packed small, texts within a budget.

Which texts are worth their room: of wrong answers first, then degraded ones, problems under way,
close votes, the rest. Every lane says on which line of the journal it begins, shown or not.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from math import isfinite
from typing import Any

from solver.journal.history import ProblemHistory, TrajectoryHistory
from solver.report.source import RunSource
from solver.report.traces import Steps, pieces, traces

PACKED_BUDGET = 30_000_000  # characters of the file that pages of problems with texts may take
RAW_BUDGET = 64_000_000  # characters of text that are read for it
_PROBLEM_BUDGET = 6_000_000  # characters of text of one problem
_STATEMENTS = 8_000_000  # characters of all statements


class Details:
    """Packs pages of problems; those that did not change since the last time are kept."""

    def __init__(self) -> None:
        self._packed: dict[tuple[str, str, int, bool], tuple[str, int]] = {}

    def pack(
        self, sources: Iterable[RunSource], names: Iterable[str]
    ) -> dict[tuple[int, str], str]:
        """A packed page for each (place of the run, problem) that was begun."""
        places = [
            (number, source, source.history.problems[name])
            for number, source in enumerate(sources)
            for name in names
            if name in source.history.problems
        ]
        places.sort(key=lambda place: _interest(place[1], place[2]))
        packed, kept = {}, {}
        room, raw = PACKED_BUDGET, RAW_BUDGET
        for number, source, problem in places:
            texts = room > 0 and raw > 0
            key = (str(source.folder), problem.id, problem.end, texts)
            page, size = self._packed.get(key) or _page(source, problem, texts=texts)
            kept[key] = packed[number, problem.id] = page, size
            if texts:
                room -= len(page)
                raw -= size
        self._packed = kept
        return {place: page for place, (page, _) in packed.items()}


def _interest(source: RunSource, problem: ProblemHistory) -> tuple[int, float]:
    """Smallest first."""
    solved = problem.solved
    if solved is None:
        return 2, 0.0
    if source.is_right(problem.id, solved.answer) is False:
        return 0, 0.0
    if solved.degraded:
        return 1, 0.0
    return 3, solved.margin / max(1, solved.num_votes)


def _page(source: RunSource, problem: ProblemHistory, *, texts: bool) -> tuple[str, int]:
    """The packed page and how many characters of text are in it."""
    prompt, steps = traces(source.journal, problem, source.decoder) if texts else (None, {})
    written, size = _fitting(problem, steps)
    asked = source.problems.get(problem.id)
    longest = _STATEMENTS // max(1, len(source.problems))
    page = {
        "statement": pieces(asked.statement, 0, longest=longest) if asked else [],
        "tags": dict(asked.tags) if asked else {},
        "prompt": prompt,
        "line": problem.line,
        "allotted": problem.allotted_s,
        "began": round(problem.started, 3),
        "checks": [
            {"mark": one.mark, "method": one.method, "reason": one.reason.value}
            for one in problem.checks
        ],
        "lanes": [
            _lane(source, problem, lane) | {"steps": written.get(lane.index)}
            for lane in problem.trajectories.values()
        ],
    }
    text = json.dumps(page, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"))).decode(), size


def _fitting(problem: ProblemHistory, steps: dict[int, Steps]) -> tuple[dict[int, Steps], int]:
    """The traces that fit into a problem's budget, those that went on past the mark first."""
    dropped = problem.dropped
    written: dict[int, Steps] = {}
    size = 0
    for index in sorted(steps, key=lambda index: (index in dropped, index)):
        length = len(json.dumps(steps[index], ensure_ascii=False))
        if size + length <= _PROBLEM_BUDGET:
            written[index] = steps[index]
            size += length
    return written, size


def _lane(source: RunSource, problem: ProblemHistory, lane: TrajectoryHistory) -> dict[str, Any]:
    def since(t: float | None) -> float | None:
        return None if t is None else round(t - problem.started, 3)

    said = [checked.scores.get(lane.index) for checked in problem.checks]
    out = [number for number, one in enumerate(problem.checks, 1) if lane.index in one.dropped]
    out += [-1 for one in problem.crowded if lane.index == one.index]
    return {
        "i": lane.index,
        "line": lane.line,
        "t": [since(lane.began), since(lane.last)],
        "pauses": [[since(pause.began), since(pause.ended)] for pause in lane.pauses],
        "n": lane.num_tokens,
        "end": lane.stop_reason.value if lane.stop_reason else None,
        "a": None if lane.answer is None else str(lane.answer),
        "ok": None if lane.answer is None else source.is_right(problem.id, lane.answer),
        "scores": [s if s is not None and isfinite(s) else None for s in said],
        "last": lane.evidence.verified,
        "dropped": out[0] if out else 0,
        "calls": [
            [call.num_tokens, since(call.started), since(call.ended), call.status]
            for call in lane.calls
        ],
        "forced": lane.forced,
        "error": lane.error,
    }
