"""The numbers of a run: a pure function of its history and its problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from math import sqrt

from pydantic import BaseModel, ConfigDict

from solver.errors import JournalError
from solver.journal.events import Solved
from solver.journal.history import RunHistory
from solver.types import DegradationKind, Problem, PruneReason

_Z95 = 1.959964


class Summary(BaseModel):
    """What `summary.json` holds. Times in seconds; token counts are those of the solved problems."""

    model_config = ConfigDict(frozen=True)

    num_problems: int
    num_answered: int  # somebody voted; the others carry the fallback answer
    num_graded: int  # the file gives their answer
    num_correct: int
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None  # Wilson, 95 %
    launch: int
    keep: int
    mark: int
    scorer: str
    sampled_tokens: int
    reused_tokens: int
    encoded_tokens: int
    elapsed_s: float
    tokens_per_s: float
    degraded: dict[str, list[str]]
    degraded_by_kind: dict[DegradationKind, int]  # how many answers, each kind once an answer
    scorer_fallbacks: int
    asked: int  # trajectories that ended their turn without an answer and were asked for it once
    asked_answered: int  # of these: gave a ballot
    asked_correct: int  # of these: gave the answer that the file gives
    interrupted: bool
    isolation: str
    model: str
    seed: int
    version: str


def summarize(history: RunHistory, problems: Sequence[Problem]) -> Summary:
    """Sum up a run, resumed ones over all of its processes. Of trajectories only who was asked matters."""
    start = history.start
    if start is None:
        raise JournalError("a run without its first event cannot be summed up")
    begun = history.problems.values()
    solved = {one.id: one.solved for one in begun if one.solved is not None}
    checked = [checked for one in begun for checked in one.checks]
    graded = [problem for problem in problems if problem.answer is not None]
    num_correct = sum(
        is_correct(solved[problem.id].answer, problem, start.config.answer.modulus)
        for problem in graded
        if problem.id in solved
    )
    elapsed_s = history.elapsed
    sampled_tokens = sum(event.sampled_tokens for event in solved.values())
    prune = start.config.prune
    answers = [(one.id, answer) for one in begun for answer in one.asked.values()]
    known = {problem.id: problem for problem in graded}
    return Summary(
        num_problems=len(problems),
        num_answered=sum(event.num_votes > 0 for event in solved.values()),
        num_graded=len(graded),
        num_correct=num_correct,
        accuracy=num_correct / len(graded) if graded else None,
        accuracy_interval=wilson_interval(num_correct, len(graded)) if graded else None,
        launch=prune.launch,
        keep=prune.keep,
        mark=prune.mark,
        scorer=prune.scorer,
        sampled_tokens=sampled_tokens,
        reused_tokens=sum(event.reused_tokens for event in solved.values()),
        encoded_tokens=sum(event.encoded_tokens for event in solved.values()),
        elapsed_s=round(elapsed_s, 3),
        tokens_per_s=round(sampled_tokens / elapsed_s, 1) if elapsed_s > 0 else 0.0,
        degraded={event.problem_id: event.degraded for event in solved.values() if event.degraded},
        degraded_by_kind=_by_kind(solved.values()),
        scorer_fallbacks=sum(check.reason is PruneReason.FALLBACK_RANDOM for check in checked),
        asked=len(answers),
        asked_answered=sum(answer is not None for _, answer in answers),
        asked_correct=sum(
            answer is not None
            and name in known
            and is_correct(answer, known[name], start.config.answer.modulus)
            for name, answer in answers
        ),
        interrupted=history.end is not None and history.end.interrupted,
        isolation=start.isolation,
        model=start.config.model.path,
        seed=start.config.seed,
        version=own_version(),
    )


def _by_kind(answers: Iterable[Solved]) -> dict[DegradationKind, int]:
    kinds = ({degradation.kind for degradation in one.degradations} for one in answers)
    return dict(sorted(Counter(kind for each in kinds for kind in each).items()))


def is_correct(answer: int, problem: Problem, modulus: int | None) -> bool:
    """Whether `answer` is the known one; a file may give it before the modulus is taken."""
    if problem.answer is None:
        return False
    difference = answer - problem.answer
    return difference == 0 if modulus is None else difference % modulus == 0


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share; honest for few trials and at 0 and 1."""
    share, z2 = successes / trials, _Z95**2
    centre = share + z2 / (2 * trials)
    spread = _Z95 * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    low, high = ((centre + sign * spread) / (1 + z2 / trials) for sign in (-1, 1))
    return round(max(0.0, low), 4), round(min(1.0, high), 4)


def own_version() -> str:
    """The version of this project that is installed here; "unknown" in a checkout that was not installed."""
    try:
        return version("stop-solver")
    except PackageNotFoundError:
        return "unknown"
