"""Problems that must never be trained on: the embedded families' test split, and lists of the user's.

The embedded families name a problem by the hash of its family and numbers, and that hash decides its
split, so a test problem is known by its id wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from solver.embedded.problems import Split, problems, split_of_id
from solver.errors import InputError
from solver.files.problems import read_problems
from solver.files.rows import kind_of
from solver.types import Problem


def embedded_problems(split: str, num: int, seed: int) -> list[Problem]:
    """`num` problems of a split of the embedded families. Raises `InputError`."""
    return [
        Problem(row.id, row.statement, row.answer, {"family": row.family, "kind": row.kind.value})
        for row in problems(split, num, seed)
    ]


def refuse_held_out(given: Sequence[Problem], exclude: Path | None) -> None:
    """Raise `InputError` if a problem is of the test split or in the file `exclude`.

    `exclude` is one id a line, or a file of problems: then equal statements count, and ids if it has any.
    """
    test = [problem.id for problem in given if split_of_id(problem.id) is Split.TEST]
    _refuse(test, "of the embedded families' test split")
    if exclude is None:
        return
    statements: frozenset[str] = frozenset()
    if kind_of(exclude) is not None:
        file = read_problems(exclude)
        ids = frozenset(row.id for row in file.problems if file.has_ids)
        statements = frozenset(row.statement.strip() for row in file.problems)
    else:
        try:
            lines = exclude.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the ids in {exclude}: {error}") from None
        ids = frozenset(line.strip() for line in lines if line.strip())
    listed = [p.id for p in given if p.id in ids or p.statement.strip() in statements]
    _refuse(listed, f"in {exclude}")


def refuse_unanswered(given: Iterable[Problem]) -> None:
    """Raise `InputError` if the answer of a problem is not known."""
    unknown = [problem.id for problem in given if problem.answer is None]
    if unknown:
        raise InputError(f"{len(unknown)} problems have no answer, the first is {unknown[0]!r}")


def _refuse(ids: Sequence[str], where: str) -> None:
    if ids:
        raise InputError(
            f"{len(ids)} problems are held out ({where}), the first is {ids[0]!r}: leave them out"
        )
