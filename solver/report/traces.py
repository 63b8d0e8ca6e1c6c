"""What was written in every trajectory of one problem: read again from the journal, decoded, cut.

A trace is a list of steps, `{"k": kind, "x": pieces, ...}`: what was `said`, `code` that ran, its
`output`, an answer's opening that was `forced`. Pieces are text, formulas (`math.py`), the mark
(`{"mark": 1}`), and cuts (`{"cut": characters, "line": journal line}`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solver.journal.events import Ended, Executed, Forced, ProblemStarted, Sampled
from solver.report.decode import Decoder
from solver.report.math import with_formulas
from solver.report.read import lines_of
from solver.report.views import ProblemRecord
from solver.types import StopReason

Steps = list[dict[str, Any]]

LONGEST_PIECE = 40_000  # characters of one text; beyond, head and tail are shown
_OPEN_FENCE = re.compile(r"\n?```(?:python|py)?[ \t]*\n?\Z")
_CLOSE_FENCE = re.compile(r"\A\n?[ \t]*```[ \t]*\n?")


@dataclass(slots=True)
class _Turn:
    """What was sampled in one go, by the journal's lines, and what came after it."""

    line: int
    ids: list[int] = field(default_factory=list)
    mark: int | None = None
    executed: Executed | None = None
    executed_line: int = 0
    forced: list[int] | None = None


def traces(
    path: Path, problem: ProblemRecord, decoder: Decoder
) -> tuple[str | None, dict[int, Steps]]:
    """The prompt, if it can be decoded, and the steps of each lane of `problem`."""
    prompt, lanes = _turns(path, problem)
    batch = [prompt]
    for turn in (turn for turns in lanes.values() for turn in turns):
        batch += [turn.ids, turn.ids[: turn.mark or 0], turn.forced or []]
    texts = decoder.texts(batch)
    if texts is None:
        return None, {
            index: [s for t in turns for s in _numbers(t)] for index, turns in lanes.items()
        }
    rest = iter(texts)
    shown = next(rest)
    return shown, {
        index: [s for t in turns for s in _steps(t, next(rest), next(rest), next(rest))]
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


def _turns(path: Path, problem: ProblemRecord) -> tuple[list[int], dict[int, list[_Turn]]]:
    prompt: list[int] = []
    lanes: dict[int, list[_Turn]] = {}
    for line, event in lines_of(path, problem):
        if isinstance(event, ProblemStarted) and event.problem_id == problem.id:
            prompt = event.prompt_token_ids
        elif isinstance(event, Sampled | Executed | Forced | Ended):
            lane = problem.lanes.get(event.index) if event.problem_id == problem.id else None
            if lane is not None and line >= lane.line:  # earlier ones were begun again
                _take(lanes.setdefault(event.index, [_Turn(line)]), line, event)
    return prompt, lanes


def _take(turns: list[_Turn], line: int, event: Sampled | Executed | Forced | Ended) -> None:
    turn = turns[-1]
    if isinstance(event, Sampled):
        turn.line = turn.line if turn.ids else line
        turn.ids += event.token_ids
    elif isinstance(event, Executed):
        turn.executed, turn.executed_line = event, line
        turns.append(_Turn(line))
    elif isinstance(event, Forced):
        turn.forced = event.appended_token_ids
        turns.append(_Turn(line))
    elif event.stop_reason is StopReason.MARK:
        turn.mark = len(turn.ids)


def _steps(turn: _Turn, text: str, before_mark: str, forced: str) -> Iterator[dict[str, Any]]:
    said, code, after = _around_code(text, turn.executed.code if turn.executed else None)
    mark = None if turn.mark is None else len(before_mark)
    if said or mark is not None:
        yield {
            "k": "said",
            "n": len(turn.ids),
            "line": turn.line,
            "x": _said(said, mark, turn.line),
        }
    if turn.executed is not None:
        # What was run is shown, be it found in the text or not.
        yield {"k": "code", "x": pieces(code, turn.executed_line, formulas=False)}
        if after:
            yield {"k": "said", "n": 0, "line": turn.line, "x": pieces(after, turn.line)}
        yield _output(turn)
    if turn.forced is not None:
        yield {"k": "forced", "n": len(turn.forced), "x": pieces(forced, turn.line)}


def _numbers(turn: _Turn) -> Iterator[dict[str, Any]]:
    """The steps where there is no tokenizer: ids are counted, code and output are known as text."""
    mark = [] if turn.mark is None else [{"mark": 1}]
    if turn.ids or mark:
        yield {"k": "ids", "n": len(turn.ids), "line": turn.line, "x": mark}
    if turn.executed is not None:
        yield {"k": "code", "x": pieces(turn.executed.code, turn.executed_line, formulas=False)}
        yield _output(turn)
    if turn.forced is not None:
        yield {"k": "forced", "n": len(turn.forced), "x": []}


def _around_code(text: str, code: str | None) -> tuple[str, str, str]:
    """What stands before the code, the code, and what stands behind it; its fences are left out."""
    if code is None:
        return text, "", ""
    before, found, after = text.rpartition(code) if code else (text, "", "")
    if not found:
        return text, code, ""
    return _OPEN_FENCE.sub("", before), code, _CLOSE_FENCE.sub("", after)


def _said(text: str, mark: int | None, line: int) -> list[Any]:
    if mark is None:
        return pieces(text, line)
    # A mark inside the code stands before it: the code is shown in one piece.
    return [*pieces(text[:mark], line), {"mark": 1}, *pieces(text[mark:], line)]


def _output(turn: _Turn) -> dict[str, Any]:
    assert turn.executed is not None
    result = turn.executed.result
    return {
        "k": "output",
        "x": pieces(result.stdout, turn.executed_line, formulas=False),
        "err": pieces(result.stderr, turn.executed_line, formulas=False),
        "st": result.status.value,
        "s": round(turn.executed.t - turn.executed.started, 3),
        "line": turn.executed_line,
    }
