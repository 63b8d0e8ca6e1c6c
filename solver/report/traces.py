"""What was written in every trajectory of one problem: read again from the journal, decoded, cut.

A trace is a list of steps, `{"k": kind, "x": pieces, ...}`: what was `said`, `code` that ran, its
`output`, an answer's opening that was `forced`. Pieces are text, formulas (`math.py`), the mark
(`{"mark": 1}`, its number), and cuts (`{"cut": characters, "line": journal line}`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solver.journal.history import Call, ProblemEvent, ProblemHistory, TrajectoryHistory
from solver.journal.reader import JournalReader, Line
from solver.report.decode import Decoder
from solver.report.math import with_formulas
from solver.types import Turn

Steps = list[dict[str, Any]]

LONGEST_PIECE = 40_000  # characters of one text; beyond, head and tail are shown
_OPEN_FENCE = re.compile(r"\n?```(?:python|py)?[ \t]*\n?\Z")
_CLOSE_FENCE = re.compile(r"\A\n?[ \t]*```[ \t]*\n?")


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn, the journal's line it begins on, after how many ids marks stand in it, and its call.

    `marks` are (number of the mark, ids before it).
    """

    turn: Turn
    line: int
    marks: list[tuple[int, int]]
    call: Call | None
    call_line: int

    @property
    def ids(self) -> list[int]:
        return self.turn.token_ids

    @property
    def forced(self) -> tuple[int, ...]:
        """What opened an answer; after a call the ids are its output."""
        return () if self.call is not None else self.turn.appended_token_ids


def traces(
    path: Path, problem: ProblemHistory, decoder: Decoder
) -> tuple[str | None, dict[int, Steps]]:
    """The prompt, if it can be decoded, and the steps of each lane of `problem`."""
    history = history_with_ids(path, problem)
    lanes = {index: list(_turns(one)) for index, one in history.trajectories.items()}
    batch = [list(history.prompt_token_ids)]
    for turn in (turn for turns in lanes.values() for turn in turns):
        batch += [turn.ids, *(turn.ids[:place] for _, place in turn.marks), list(turn.forced)]
    texts = decoder.texts(batch)
    if texts is None:
        return None, {
            index: [s for t in turns for s in _numbers(t)] for index, turns in lanes.items()
        }
    rest = iter(texts)
    shown = next(rest)
    return shown, {
        index: [
            s
            for t in turns
            for s in _steps(t, next(rest), [next(rest) for _ in t.marks], next(rest))
        ]
        for index, turns in lanes.items()
    }


def pieces(
    text: str, line: int, *, formulas: bool = True, longest: int = LONGEST_PIECE
) -> list[Any]:
    """`text` in pieces, its middle cut out if it is too long; `line` is where all of it stands."""
    read = with_formulas if formulas else _plain
    longest = min(longest, LONGEST_PIECE)
    cut = len(text) - longest
    if cut <= 0:
        return read(text)
    half = longest // 2
    return [*read(text[:half]), {"cut": cut, "line": line}, *read(text[len(text) - half :])]


def _plain(text: str) -> list[Any]:
    return [text] if text else []


def history_with_ids(path: Path, problem: ProblemHistory) -> ProblemHistory:
    """`problem` read again from the journal at `path`, with what every trajectory wrote."""
    reader = JournalReader(path, tolerant=True, after=Line(problem.line - 1, 0, problem.begin))
    history = ProblemHistory(problem.problem, keep_ids=True)
    for event, line in reader.events(end=problem.end):
        if isinstance(event, ProblemEvent) and event.problem_id == problem.id:
            history.apply(event, line.number)
    return history


def _turns(one: TrajectoryHistory) -> Iterator[_Turn]:
    lines = {request.turn: request.line for request in reversed(one.requests)}
    calls, line = zip(one.calls, one.record.call_lines, strict=True), one.line
    for place, turn in enumerate(one.trajectory.turns):
        begins = lines.get(place, line)
        call, line = next(calls) if turn.execution is not None else (None, line)
        marks = [
            (number, before)
            for number, (marked, before) in enumerate(one.record.mark_places, start=1)
            if marked == place
        ]
        yield _Turn(turn, begins, marks, call, line)


def _steps(
    turn: _Turn, text: str, before_marks: list[str], forced: str
) -> Iterator[dict[str, Any]]:
    said, code, after = _around_code(text, turn.turn.tool_call)
    numbers = [number for number, _ in turn.marks]
    marks = list(zip(numbers, map(len, before_marks), strict=True))
    if said or marks:
        yield {
            "k": "said",
            "n": len(turn.ids),
            "line": turn.line,
            "x": _said(said, marks, turn.line),
        }
    if turn.call is not None:
        # What was run is shown, be it found in the text or not.
        yield {"k": "code", "x": pieces(code, turn.call_line, formulas=False)}
        if after:
            yield {"k": "said", "n": 0, "line": turn.line, "x": pieces(after, turn.line)}
        yield _output(turn)
    if turn.forced:
        yield {"k": "forced", "n": len(turn.forced), "x": pieces(forced, turn.line)}


def _numbers(turn: _Turn) -> Iterator[dict[str, Any]]:
    """The steps where there is no tokenizer: ids are counted, code and output are known as text."""
    marks = [{"mark": number} for number, _ in turn.marks]
    if turn.ids or marks:
        yield {"k": "ids", "n": len(turn.ids), "line": turn.line, "x": marks}
    if turn.call is not None:
        code = turn.turn.tool_call or ""
        yield {"k": "code", "x": pieces(code, turn.call_line, formulas=False)}
        yield _output(turn)
    if turn.forced:
        yield {"k": "forced", "n": len(turn.forced), "x": []}


def _around_code(text: str, code: str | None) -> tuple[str, str, str]:
    """What stands before the code, the code, and what stands behind it; its fences are left out."""
    if code is None:
        return text, "", ""
    before, found, after = text.rpartition(code) if code else (text, "", "")
    if not found:
        return text, code, ""
    return _OPEN_FENCE.sub("", before), code, _CLOSE_FENCE.sub("", after)


def _said(text: str, marks: list[tuple[int, int]], line: int) -> list[Any]:
    said: list[Any] = []
    begin = 0
    for number, end in marks:
        # A mark inside the code stands before it: the code is shown in one piece.
        said += [*pieces(text[begin:end], line), {"mark": number}]
        begin = end
    return said + pieces(text[begin:], line)


def _output(turn: _Turn) -> dict[str, Any]:
    result, call = turn.turn.execution, turn.call
    assert result is not None and call is not None
    return {
        "k": "output",
        "x": pieces(result.stdout, turn.call_line, formulas=False),
        "err": pieces(result.stderr, turn.call_line, formulas=False),
        "st": call.status,
        "s": round(call.seconds, 3),
        "line": turn.call_line,
    }
