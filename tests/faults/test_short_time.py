"""Too little time for everything: fewer trajectories first, then fewer problems; never time for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from solver.config import SolverConfig
from solver.journal.events import Event, ProblemStarted, Solved
from solver.replay.policy import Policy
from solver.replay.speeds import Speeds
from solver.replay.sweep import Replay
from solver.solving.session import run_session
from solver.types import DegradationKind, Problem
from tests.faults.test_time import endless, session
from tests.replay.runs import full, recorded
from tests.support import run_virtual
from tests.support.rig import END, Rig, config, every, ids, problem, says

# 60 tokens and the box: s(k) = 10 ms + 10 ms * k. All four take about 2.3 s, one takes 1.3 s.
TALE = says(7, 55)
PACE = {"step_s": 0.01, "stream_s": 0.01, "tokens": 66}


def names(num: int) -> list[str]:
    return [f"p{i}" for i in range(num)]


def rig(num: int, limit_s: float, **sections: Mapping[str, object]) -> Rig:
    settings = config(budget={"time_limit_s": limit_s, "closing_s": 0.0}, **sections)
    tales = {who: text for name in names(num) for who, text in every([TALE] * 4, name).items()}
    return Rig(says=tales, settings=settings, delay_s=0.01, stream_s=0.01)


def kinds(answer: Solved) -> set[DegradationKind]:
    return {degradation.kind for degradation in answer.degradations}


def test_with_enough_time_nothing_shrinks() -> None:
    subject = rig(10, 60.0, pace=PACE)
    answers, _ = session(subject, names(10))
    assert all((a.answer, a.num_votes, a.degraded) == (7, 2, []) for a in answers)
    assert {(e.launch, e.keep) for e in subject.of(ProblemStarted)} == {(4, 2)}


@pytest.mark.parametrize("pace", [PACE, {}])
def test_a_short_share_shrinks_launch_and_keep_together(pace: Mapping[str, object]) -> None:
    subject = rig(10, 21.0, pace=pace)
    answers, elapsed = session(subject, names(10))
    assert elapsed <= 21.0
    assert all(a.answer == 7 and a.num_votes > 0 for a in answers), "each has a vote of its own"
    shrunk = [(e.launch, e.keep) for e in subject.of(ProblemStarted) if e.launch != 4]
    assert shrunk and set(shrunk) <= {(3, 2), (2, 1), (1, 1)}
    assert sum(DegradationKind.SHRUNK in kinds(a) for a in answers) == len(shrunk)
    assert not any(DegradationKind.OUT_OF_TIME in kinds(a) for a in answers), "nobody was cut"
    reasons = [text for a in answers for text in a.degraded]
    assert all(text.startswith("time was short: ") and "launched" in text for text in reasons)


def test_below_the_least_as_many_as_can_be_are_solved_and_the_rest_say_so() -> None:
    """Shared out evenly, a fifth of a second each would be nothing for everybody."""
    subject = rig(30, 6.0, pace=PACE)
    answers, elapsed = session(subject, names(30))
    voted = [a for a in answers if a.num_votes]
    assert elapsed <= 6.0
    assert len(voted) == 5, "four take 3.2 s side by side, and one takes 1.3 s"
    assert all(a.answer == 7 for a in voted)
    assert {(e.launch, e.keep) for e in subject.of(ProblemStarted)} == {(1, 1)}
    last_try, *rest = [a for a in answers if not a.num_votes]
    assert last_try.elapsed_s < 1.4, "with what was left"
    assert all(a.degraded[0].startswith("no time") for a in rest)
    assert all(a.elapsed_s == 0.0 for a in rest), "at once"


@pytest.mark.parametrize("limit_s", [10.0, 15.0])
def test_short_of_time_problems_go_on_side_by_side(limit_s: float) -> None:
    """One after another, 10 s are enough for seven of ten; a step with four streams costs 2.5 of one's."""
    subject = rig(10, limit_s, pace=PACE)
    answers, elapsed = session(subject, names(10))
    assert elapsed <= limit_s
    assert all(a.answer == 7 and a.num_votes for a in answers)
    begun = sorted((a.t - a.elapsed_s, a.t) for a in answers)
    assert any(later < ended for (_, ended), (later, _) in pairwise(begun)), "side by side"
    most = max(
        sum(e.launch or 0 for e, a in zip(subject.of(ProblemStarted), by_start(answers), strict=True)
            if a.t - a.elapsed_s <= moment < a.t)
        for moment, _ in begun
    )  # fmt: skip
    assert most <= 4, "never more streams than one whole launch"


def by_start(answers: list[Solved]) -> list[Solved]:
    return sorted(answers, key=lambda a: (a.t - a.elapsed_s, names(99).index(a.problem_id)))


def test_a_machine_that_is_slower_than_expected_is_found_out() -> None:
    quick = {"step_s": 0.001, "stream_s": 0.001, "tokens": 66}
    subject = rig(30, 12.0, pace=quick)
    answers, elapsed = session(subject, names(30))
    assert elapsed <= 12.0
    assert sum(a.num_votes > 0 for a in answers) >= 7, "of at most nine"


def test_trajectories_that_are_silent_when_they_are_cut_get_more_time() -> None:
    """Nothing is expected, nobody ends in an even share, and a forced answer is none: time grows."""

    def late(who: str, so_far: tuple[int, ...]) -> list[int]:
        opening = ids("{")[0]
        return ids("?" + END) if so_far[-1] == opening else ids(TALE)[len(so_far) - prompt :]

    subject = rig(20, 12.0)
    subject.says = late
    prompt = len(subject.dialect.prompt("1+1?"))
    answers, elapsed = session(subject, names(20))
    assert elapsed <= 12.0
    assert sum(a.num_votes > 0 for a in answers) >= 4, "an even share is half of what one takes"


def test_who_answers_when_forced_is_not_given_more_time_than_others() -> None:
    subject = Rig(says=endless, settings=config(budget={"time_limit_s": 60.0}), delay_s=0.1)
    answers, elapsed = session(subject, names(12))
    assert elapsed <= 60.0
    assert [a.answer for a in answers] == [42] * 12


def test_a_full_recording_launches_all_it_is_meant_to() -> None:
    subject = rig(10, 21.0, pace=PACE)
    subject.settings = SolverConfig.model_validate(
        subject.settings.model_dump() | {"record": "full"}
    )
    session(subject, names(10))
    assert {e.launch for e in subject.of(ProblemStarted)} == {4}


@pytest.mark.parametrize("limit_s", [60.0, 21.0, 15.0, 10.0, 6.5, 4.0])
def test_a_replay_shrinks_as_the_run_does(tmp_path: Path, limit_s: float) -> None:
    num = 10
    problems = [Problem(name, "1+1?", 7) for name in names(num)]
    run = rig(num, limit_s, pace=PACE)
    answers, _ = session(run, names(num))
    whole = rig(num, limit_s)
    whole.settings = full(pace=PACE, budget={"closing_s": 0.0})
    recording = recorded(tmp_path / "full", whole, problems)
    replay = Replay([recording], Speeds(0.01, 0.01, 0.0, 0.0, 0.0))
    policy = replace(Policy.of(recording.config), limit_s=limit_s)
    outcomes = replay.session(0, policy, 0)
    launched = [e.launch for e in run.of(ProblemStarted)]
    assert [o.launch for o in outcomes if o.launch] == launched
    assert [o.vote.num_votes for o in outcomes] == [a.num_votes for a in answers]


def test_a_run_that_goes_on_knows_the_pace_of_the_earlier_one() -> None:
    before, _ = session(rig(2, 60.0), names(2))
    subject = rig(30, 6.0)

    async def main() -> list[Solved]:
        problems = [problem(name) for name in names(30)]
        return await run_session(
            problems, subject.services(), solved={a.problem_id: a for a in before}
        )

    answers = run_virtual(main())
    assert sum(a.num_votes > 0 for a in answers) == 2 + 5
    assert {e.launch for e in subject.of(ProblemStarted)} == {1}


def test_what_writing_an_answer_takes_is_kept_at_the_end_for_those_that_are_left() -> None:
    """A slow disk: each line takes 0.2 s, 30 of them six seconds."""
    subject = rig(30, 20.0, pace=PACE)

    async def main() -> tuple[list[Solved], float]:
        services = subject.services()
        record = services.record

        def slowly(event: Event) -> None:
            record(event)
            if isinstance(event, Solved):
                asyncio.get_running_loop().virtual_now += 0.2  # type: ignore[attr-defined]

        problems = [problem(name) for name in names(30)]
        answers = await run_session(problems, replace(services, record=slowly), solved={})
        return answers, services.elapsed()

    answers, elapsed = run_virtual(main())
    assert elapsed <= 20.0
    assert sum(a.num_votes > 0 for a in answers) >= 7, "20 s less 7.3, and 1.5 s for an answer"
