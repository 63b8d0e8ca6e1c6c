"""A run folder as a report reads it: its problems, its journal, and a tokenizer if there is one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from solver.config import SolverConfig
from solver.embedded.paths import model_folder
from solver.errors import InputError
from solver.files.gguf import is_gguf
from solver.files.problems import problems_of_run
from solver.journal.history import RunHistory
from solver.journal.reader import JournalReader
from solver.journal.summary import is_correct
from solver.report.charts import Graded, IsRight
from solver.report.decode import Decoder
from solver.types import Problem


class RunSource:
    """One run; `update` reads on. Raises `InputError` for a folder that holds no run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self.problems = {problem.id: problem for problem in problems_of_run(folder)}
        self.history = RunHistory(self.problems.values())
        self.reader = JournalReader(self.journal, tolerant=True)
        self.update()

    @property
    def name(self) -> str:
        """What the report calls this run."""
        return self.folder.resolve().name

    @property
    def config(self) -> SolverConfig:
        """The run's config; the defaults as long as nothing is recorded."""
        return self.history.start.config if self.history.start else SolverConfig()

    @cached_property
    def decoder(self) -> Decoder:
        """The tokenizer of the run's model; a run on a GGUF file keeps it in its own folder."""
        model = model_folder(self.config.model.path)
        return Decoder(self.folder if is_gguf(model) else model)

    def update(self) -> bool:
        """Read what is new in the journal; whether there was anything."""
        return self.history.read(self.reader)

    def is_right(self, problem_id: str, answer: int | None) -> bool | None:
        """Whether an answer is the known one; None if it is not known."""
        problem = self.problems.get(problem_id)
        if problem is None or problem.answer is None:
            return None
        return answer is not None and is_correct(answer, problem, self.config.answer.modulus)

    def graded(self) -> list[Graded]:
        """The solved problems with a known answer, in the order of the file."""
        config = self.config
        return [
            Graded(history, _judge(self, name), config.answer.fallback_answer, config.vote)
            for name, problem in self.problems.items()
            if problem.answer is not None
            and (history := self.history.problems.get(name)) is not None
            and history.solved is not None
        ]


def _judge(source: RunSource, problem_id: str) -> IsRight:
    return lambda answer: bool(source.is_right(problem_id, answer))


def shared_problems(sources: Iterable[RunSource]) -> dict[str, Problem]:
    """The problems that all of the runs have, in the order of the first one.

    Raises `InputError` if several runs have none in common. An id alone may be a line's number.
    """
    first, *others = sources
    shared = {
        name: problem
        for name, problem in first.problems.items()
        if all(
            name in other.problems and other.problems[name].statement == problem.statement
            for other in others
        )
    }
    if others and not shared:
        raise InputError(f"{first.folder} and {others[0].folder} have no problem in common")
    return shared
