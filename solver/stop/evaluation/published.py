"""Rollouts and their scores as one compressed file that holds no statements.

Everything that was measured on them can be computed again: tables from the scores, and who has the public
problems finds each by the hash of its statement, to train on the rollouts or to score them anew. Lines of
JSON in xz: a header, the rollouts, the scores.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from solver.dialects.base import Dialect
from solver.errors import InputError
from solver.files.whole import write_whole
from solver.stop.evaluation.scores import ScoreHeader, Scores, line_of, marked_of
from solver.stop.rollouts.file import SamplingHeader
from solver.stop.rollouts.rollout import ProblemRollouts, SavedTurn, statement_digest
from solver.types import Problem

_DECIMALS = {"logprobs": 4, "confidences": 2, "entropies": 3}


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    published: int = 1
    scores: ScoreHeader
    statements: dict[str, str]
    num_rollouts: int


@dataclass(frozen=True, slots=True)
class Published:
    """What a published file holds: `statements` is the sha256 of each problem's statement by its id.

    The rollouts have no prompt, and their log-probabilities, confidences and entropies are rounded.
    """

    scores: Scores
    units: tuple[ProblemRollouts, ...]
    statements: Mapping[str, str]


def publish(
    path: Path,
    sampling: SamplingHeader,
    units: Sequence[ProblemRollouts],
    statements: Mapping[str, str],
    scores: Scores | None = None,
) -> int:
    """Write the file in one step and return its size in bytes. `statements` is by problem id.

    Raises `InputError` for a problem without a statement, for scores of other rollouts, and for a problem
    that they lack.
    """
    for unit in units:
        if unit.problem_id not in statements:
            raise InputError(f"there is no statement of {unit.problem_id}")
    if scores is None:
        scores = Scores(ScoreHeader(sampling=sampling, adapters=(), reward_models=()))
    else:
        if scores.header.sampling != sampling:
            raise InputError("the scores are of other rollouts")
        if not scores.settings():
            raise InputError("nothing is scored yet: let `evaluate` go on")
        wanted = [(unit.problem_id, unit.block) for unit in units]
        scores.refuse_partial(wanted, scores.settings(), path)
    names = dict.fromkeys(unit.problem_id for unit in units)
    model = Path(sampling.model).name  # where it lay is nobody's business
    public = scores.header.model_copy(
        update={"sampling": sampling.model_copy(update={"model": model})}
    )
    header = _Header(
        scores=public,
        statements={name: statement_digest(statements[name]) for name in names},
        num_rollouts=len(units),
    )
    lines = [header.model_dump_json()]
    lines += [_without_prompt(unit).model_dump_json(exclude_defaults=True) for unit in units]
    lines += [line_of(marked) for marked in scores.all() if marked.problem_id in names]
    data = lzma.compress("".join(f"{line}\n" for line in lines).encode())
    write_whole(path, data)
    return len(data)


def read_published(path: Path) -> Published:
    """Read what `publish` wrote. Raises `InputError`."""
    try:
        first, *lines = lzma.decompress(path.read_bytes()).split(b"\n")[:-1]
        header = _Header.model_validate_json(first)
        units = [ProblemRollouts.model_validate_json(line) for line in lines[: header.num_rollouts]]
        marked = [marked_of(line) for line in lines[header.num_rollouts :]]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (lzma.LZMAError, ValidationError, ValueError):
        raise InputError(f"{path} is not a file of `publish`, or it is damaged") from None
    return Published(Scores.of(header.scores, marked), tuple(units), header.statements)


def restored(
    published: Published, problems: Sequence[Problem], dialect: Dialect, *, some: bool = False
) -> list[ProblemRollouts]:
    """The rollouts with their prompts, which `dialect` writes. Ids of problems may be others by now.

    With `some`, only the rollouts of these problems. Raises `InputError` for a statement that no problem has,
    with `some` if that is true of all.
    """
    known = {statement_digest(problem.statement): problem.statement for problem in problems}
    units = []
    for unit in published.units:
        digest = published.statements[unit.problem_id]
        if digest in known:
            prompt = dialect.prompt(known[digest])
            units.append(unit.model_copy(update={"prompt_token_ids": prompt, "statement": digest}))
        elif not some:
            raise InputError(
                f"no problem has the statement of {unit.problem_id} (--some leaves its rollouts out)"
            )
    if not units:
        raise InputError("no problem has the statement of any of these rollouts")
    return units


def _without_prompt(unit: ProblemRollouts) -> ProblemRollouts:
    rollouts = [
        rollout.model_copy(update={"turns": [_rounded(turn) for turn in rollout.turns]})
        for rollout in unit.rollouts
    ]
    # its statement's digest is in the header
    return unit.model_copy(update={"prompt_token_ids": [], "statement": None, "rollouts": rollouts})


def _rounded(turn: SavedTurn) -> SavedTurn:
    return turn.model_copy(
        update={
            name: [round(value, decimals) for value in getattr(turn, name)]
            for name, decimals in _DECIMALS.items()
        }
    )
