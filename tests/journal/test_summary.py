"""The numbers of a run, on a journal made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import SolverConfig
from solver.errors import JournalError
from solver.journal.events import Checked, Event, RunEnded, RunResumed, RunStarted, Sampled, Solved
from solver.journal.summary import Summary, is_correct, wilson_interval
from solver.journal.summary import summarize as summarize_history
from solver.types import Problem, PruneReason
from tests.support.journals import run_history

PROBLEMS = [Problem("a", "", 5), Problem("b", "", 6), Problem("c", "", None), Problem("d", "", 0)]


def start(**config: object) -> RunStarted:
    return RunStarted(
        t=1.0,
        created="",
        config=SolverConfig.model_validate(config),
        problem_ids=["a", "b", "c", "d"],
        problems_sha256="",
        isolation="seccomp",
    )


def solved(problem_id: str, answer: int, t: float, votes: int = 8, *degraded: str) -> Solved:
    return Solved(
        t=t,
        problem_id=problem_id,
        answer=answer,
        votes={answer: votes} if votes else {},
        num_votes=votes,
        margin=votes,
        tied=False,
        decided_early=False,
        elapsed_s=1.0,
        sampled_tokens=100,
        reused_tokens=30,
        encoded_tokens=20,
        degraded=list(degraded),
    )


def checked(problem_id: str, reason: PruneReason) -> Checked:
    return Checked(
        t=2.0,
        problem_id=problem_id,
        kept=[0],
        dropped=[1],
        scores={},
        method="confidence",
        reason=reason,
        started=1.5,
    )


EVENTS: list[Event] = [
    start(seed=9, prune={"launch": 12, "keep": 4, "mark": 20, "scorer": "random"}),
    checked("a", PruneReason.SCORED),
    solved("a", 5, 4.0),
    checked("b", PruneReason.FALLBACK_RANDOM),
    solved("b", 7, 6.0, 8, "scorer failed"),
    RunResumed(t=0.5, created=""),
    solved("c", 1, 10.0),
    solved("d", 0, 13.0, 0, "no vote", "no time"),
    RunEnded(t=14.0),
]


def summarize(events: list[Event], problems: list[Problem]) -> Summary:
    return summarize_history(run_history(events), problems)


def test_the_numbers() -> None:
    summary = summarize(EVENTS, PROBLEMS)
    assert summary.model_dump(exclude={"accuracy", "accuracy_interval", "version"}) == {
        "num_problems": 4,
        "num_answered": 3,
        "num_graded": 3,
        "num_correct": 2,  # a, and d by its fallback answer
        "launch": 12,
        "keep": 4,
        "mark": 20,
        "scorer": "random",
        "sampled_tokens": 400,
        "reused_tokens": 120,
        "encoded_tokens": 80,
        "elapsed_s": 20.0,  # 6 s of the first process, 14 s of the second
        "tokens_per_s": 20.0,
        "degraded": {"b": ["scorer failed"], "d": ["no vote", "no time"]},
        "degraded_by_kind": {"no_vote": 1, "other": 1, "scorer_failed": 1},
        "scorer_fallbacks": 1,
        "asked": 0,
        "asked_answered": 0,
        "asked_correct": 0,
        "interrupted": False,
        "isolation": "seccomp",
        "model": "embedded",
        "seed": 9,
    }
    assert summary.accuracy == pytest.approx(2 / 3)


def test_without_known_answers() -> None:
    summary = summarize(EVENTS, [Problem(p.id, "") for p in PROBLEMS])
    assert (summary.num_graded, summary.accuracy, summary.accuracy_interval) == (0, None, None)


def test_a_run_cut_short() -> None:
    summary = summarize(EVENTS[:3], PROBLEMS)
    assert (summary.num_correct, summary.accuracy) == (1, pytest.approx(1 / 3))
    assert summarize([start(), RunEnded(t=2.0, interrupted=True)], PROBLEMS).interrupted
    with pytest.raises(JournalError):
        summarize([], PROBLEMS)


def test_other_events_do_not_count() -> None:
    sampled = Sampled(
        t=13.5,
        problem_id="a",
        index=0,
        token_ids=[1],
        logprobs=[0.0],
        reused_tokens=0,
        encoded_tokens=0,
        started=0.0,
    )
    assert summarize([*EVENTS[:-1], sampled, EVENTS[-1]], PROBLEMS) == summarize(EVENTS, PROBLEMS)


def test_known_answers_are_taken_modulo_too() -> None:
    problem = Problem("a", "", 123_456)
    assert is_correct(456, problem, 1000)
    assert not is_correct(456, problem, None)
    assert not is_correct(455, problem, 1000)
    assert not is_correct(0, Problem("a", ""), None)


def test_wilson() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    assert wilson_interval(81, 263) == (0.2553, 0.3662)
    assert wilson_interval(15, 148) == (0.0624, 0.1605)
    assert wilson_interval(0, 20) == (0.0, 0.1611)
    assert wilson_interval(1, 29) == (0.0061, 0.1718)


@given(trials=st.integers(1, 500), share=st.floats(0, 1))
def test_the_interval_holds_the_share(trials: int, share: float) -> None:
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-4 and successes / trials - 1e-4 <= high <= 1
