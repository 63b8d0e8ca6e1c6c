"""Run folders made by hand: problems, a model folder with a byte tokenizer, and a journal of events."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from solver.config import SolverConfig
from solver.journal.events import (
    Checked,
    Crowded,
    Ended,
    Event,
    Executed,
    Forced,
    ProblemStarted,
    RunEnded,
    RunStarted,
    Sampled,
    Scored,
    Solved,
)
from solver.journal.writer import JournalWriter
from solver.types import NO_EVIDENCE, Evidence, PruneReason, StopReason
from tests.support import byte_tokenizer

TOKENIZER = byte_tokenizer()
MARK = 10


def ids(text: str) -> list[int]:
    """Text as ids, one a byte; special tokens are one id."""
    encoded: list[int] = TOKENIZER.encode(text, add_special_tokens=False)
    return encoded


@dataclass
class RunBuilder:
    """Events in order, each a second after the one before; `write` makes the folder."""

    folder: Path
    problems: list[tuple[str, str, int | None]]
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.model = self.folder.parent / "model"
        self.model.mkdir(parents=True, exist_ok=True)
        TOKENIZER.backend_tokenizer.save(str(self.model / "tokenizer.json"))
        sections: dict[str, dict[str, object]] = {
            "model": {"path": str(self.model)},
            "prune": {"launch": 3, "keep": 2, "mark": MARK, "scorer": "stop"},
        }
        for name, section in self.settings.items():
            sections[name] = {**sections.get(name, {}), **section}
        self.add(
            RunStarted(
                created="2025-01-02T03:04:05+00:00",
                config=SolverConfig.model_validate(sections),
                problem_ids=[name for name, _, _ in self.problems],
                problems_sha256="0" * 64,
            )
        )

    def add(self, event: Event) -> None:
        self.now += 1.0
        self.events.append(event.model_copy(update={"t": self.now}))

    def start(self, name: str, allotted_s: float | None = None) -> None:
        prompt = ids("<|user|>\nsolve it")
        self.add(ProblemStarted(problem_id=name, prompt_token_ids=prompt, allotted_s=allotted_s))

    def says(self, name: str, index: int, text: str) -> None:
        token_ids = ids(text)
        self.add(
            Sampled(
                problem_id=name,
                index=index,
                token_ids=token_ids,
                logprobs=[-0.5] * len(token_ids),
                reused_tokens=0,
                encoded_tokens=0,
                started=self.now,
            )
        )

    def runs(self, name: str, index: int, code: str, stdout: str, **more: object) -> None:
        fields = {"status": ExecutionStatus.OK, "stdout": stdout, **more}
        self.add(
            Executed(
                problem_id=name,
                index=index,
                code=code,
                result=ExecutionResult.model_validate(fields),
                appended_token_ids=ids(f"```output\n{stdout[:50]}\n```\n"),
                started=self.now,
            )
        )

    def forces(self, name: str, index: int) -> None:
        self.add(Forced(problem_id=name, index=index, appended_token_ids=ids("The answer is ")))

    def ends(
        self,
        name: str,
        index: int,
        reason: StopReason,
        tokens: int,
        answer: int | None = None,
        evidence: Evidence = NO_EVIDENCE,
    ) -> None:
        self.add(
            Ended(
                problem_id=name,
                index=index,
                stop_reason=reason,
                num_sampled_tokens=tokens,
                answer=answer,
                evidence=evidence,
            )
        )

    def checks(
        self, name: str, scores: dict[int, float], kept: list[int], mark: int | None = None
    ) -> None:
        """Without a mark, as journals before 1.5 have it."""
        self.add(
            Checked(
                problem_id=name,
                mark=mark,
                kept=kept,
                dropped=[index for index in scores if index not in kept],
                scores=scores,
                method="stop",
                reason=PruneReason.SCORED,
                started=self.now,
            )
        )

    def also_scored(self, name: str, scorer: str, mark: int, scores: dict[int, float]) -> None:
        """As a full recording has it."""
        self.add(Scored(problem_id=name, scorer=scorer, mark=mark, scores=scores, started=self.now))

    def solves(
        self,
        name: str,
        answer: int,
        votes: dict[int, int],
        *degraded: str,
        weights: dict[int, float] | None = None,
    ) -> None:
        counts = [*sorted(votes.values(), reverse=True), 0, 0]
        self.add(
            Solved(
                problem_id=name,
                answer=answer,
                votes=votes,
                weights=weights or {},
                num_votes=sum(votes.values()),
                margin=counts[0] - counts[1],
                tied=False,
                decided_early=len(votes) == 1,
                elapsed_s=5.0,
                sampled_tokens=60,
                reused_tokens=0,
                encoded_tokens=0,
                degraded=list(degraded),
            )
        )

    def plays(
        self,
        name: str,
        answers: tuple[int, int],
        final: int,
        *degraded: str,
        said: str = "so \\(x^2\\): ",
        output: str = "4\n",
    ) -> None:
        """A whole problem: three to the mark, the first two kept, one call each, both answer."""
        self.start(name, 30.0)
        for index in range(3):
            self.says(name, index, "x" * MARK)
            self.ends(name, index, StopReason.MARK, MARK)
        self.checks(name, {0: 1.5, 1: 0.5, 2: -2.0}, [0, 1])
        self.ends(name, 2, StopReason.PRUNED, MARK)
        for index, answer in enumerate(answers):
            text = f"{said}\n```python\nprint(2 + 2)\n```\n"
            self.says(name, index, text)
            self.runs(name, index, "print(2 + 2)", output)
            end = f"Hence{' ' * index} \\boxed{{{answer}}}.<|end|>"
            self.says(name, index, end)
            tokens = MARK + len(ids(text)) + len(ids(end))
            self.ends(name, index, StopReason.ANSWERED, tokens, answer)
        votes = {answer: answers.count(answer) for answer in sorted(set(answers))}
        self.solves(name, final, votes, *degraded)

    def crowds(self, name: str, index: int, scores: dict[int, float]) -> None:
        """The cache is full, and this one is dropped for it."""
        self.add(Crowded(problem_id=name, index=index, scores=scores))

    def halves(self, name: str) -> None:
        """A whole problem with two checks: three to the mark, two to twice as many tokens, one answers."""
        self.start(name, 30.0)
        scores = [{0: 1.5, 1: 0.5, 2: -2.0}, {0: 2.5, 1: -1.0}]
        for number, (said, kept) in enumerate(zip(scores, ([0, 1], [0]), strict=True), start=1):
            for index in said:
                self.says(name, index, "x" * MARK)
                self.ends(name, index, StopReason.MARK, number * MARK)
            self.checks(name, said, kept, number * MARK)
            for index in sorted(said.keys() - kept):
                self.ends(name, index, StopReason.PRUNED, number * MARK)
        end = "\\boxed{4}<|end|>"
        self.says(name, 0, end)
        self.ends(name, 0, StopReason.ANSWERED, 2 * MARK + len(ids(end)), 4)
        self.solves(name, 4, {4: 1})

    def write(self, *, ended: bool = True) -> Path:
        if ended:
            self.add(RunEnded())
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "problems.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "problem", "answer"))
            writer.writerows(self.problems)
        self.flush()
        return self.folder

    def flush(self) -> None:
        """Write every event so far, as the run would have."""
        growing = self.folder / "journal.new"
        with contextlib.closing(JournalWriter(growing, pytest.fail)) as writer:
            for event in self.events:
                writer.record(event)
        growing.replace(self.folder / "journal.jsonl")  # at once: a server may be reading it


def three_problems(folder: Path) -> RunBuilder:
    """One right, one wrong and degraded, one right by both; known answers 4, 7 and 9."""
    problems = [
        ("sum", "What is $2 + 2$?", 4),
        ("product", "What is 1 times 7?", 7),
        ("square", "What is \\(3^2\\)?", 9),
    ]
    run = RunBuilder(folder, problems, {"budget": {"time_limit_s": 100}})
    run.plays("sum", (4, 5), 4)
    run.plays("product", (8, 8), 8, "time was short: 1 trajectories cut short")
    run.plays("square", (9, 9), 9)
    return run


def unpack(page: str) -> dict[str, Any]:
    """A problem's page as the browser unpacks it."""
    unpacked: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(page)))
    return unpacked
