"""A trajectory that ends its turn without an answer is asked for it once, and the run says so."""

from __future__ import annotations

from typing import Any

import pytest

from solver.engines.scripted import Script
from solver.journal.events import Ended, Executed, Forced, RunStarted, Sampled
from solver.journal.history import RunHistory
from solver.journal.summary import summarize
from solver.policy.answer import FORCED_TOKENS
from solver.solving.session import run_session
from solver.types import Problem, StopReason
from tests.reading.cases import of
from tests.support import run_virtual
from tests.support.rig import END, Rig, config, ids, problem

BRACE = ids("{")[0]


def ends_with(text: str, then: str = "42}." + END) -> Script:
    """Says `text` and ends its turn; made to answer, it says `then`."""

    def script(_: str, so_far: tuple[int, ...]) -> list[int]:
        return ids(then if so_far[-1] == BRACE else text + END)

    return script


def run(script: Script, known: int | None = None, **sections: Any) -> Rig:
    rig = Rig(says=script, settings=config(**sections))

    async def main() -> None:
        await run_session([problem("p", known)], rig.services(), solved={})

    run_virtual(main())
    return rig


@of("final text, then the turn ends")
def test_a_plain_answer(case: dict[str, Any]) -> None:
    rig = run(ends_with(case["input"]))
    assert [(e.stop_reason, e.answer) for e in rig.of(Ended)[-2:]] == [
        (StopReason.ANSWERED, 42)
    ] * 2
    assert [event.asked for event in rig.of(Forced)] == [True, True]
    assert all(len(e.token_ids) <= FORCED_TOKENS for e in rig.of(Sampled)[-2:])


@pytest.mark.parametrize("answer", ["\\boxed{}", "\\boxed{ }", "no box"])
def test_an_empty_box_is_no_answer(answer: str) -> None:
    assert run(ends_with(answer)).of(Forced)


@pytest.mark.parametrize(
    "answer",
    ["\\boxed{\\frac{1}{3}}", "\\boxed{100000}", "\\boxed{x+1}", "`\\boxed{3.5}`", "\\boxed{7}"],
)
def test_an_answer_that_was_given_stays(answer: str) -> None:
    assert not run(ends_with(answer)).of(Forced)


def test_it_is_asked_once() -> None:
    rig = run(ends_with("The answer is 3.", then="x}" + END))
    assert len(rig.of(Forced)) == 2
    assert {event.answer for event in rig.of(Ended)} == {None}


def test_a_setting_turns_it_off() -> None:
    rig = run(ends_with("The answer is 3."), answer={"ask": False})
    assert not rig.of(Forced) and {event.answer for event in rig.of(Ended)} == {None}


def test_a_block_that_does_not_run_is_answered_in_words_and_the_model_goes_on() -> None:
    def script(_: str, so_far: tuple[int, ...]) -> list[int]:
        told = ids("[")[0] in so_far  # the words that come back begin with it
        return ids("\\boxed{9}" + END if told else "```c\nx\n```" + END)

    rig = run(script)
    executed = rig.of(Executed)
    assert executed and all(event.code == "" for event in executed)
    assert {event.answer for event in rig.of(Ended)[-2:]} == {9}


def test_the_numbers_say_how_many_ballots_that_saved_and_how_many_were_right() -> None:
    def script(name: str, so_far: tuple[int, ...]) -> list[int]:
        if so_far[-1] != BRACE:
            return ids("It is three." + END)
        return ids(("42}" if name.endswith("#0") else "x}" if name.endswith("#1") else "7}") + END)

    rig = run(script, prune={"launch": 4, "keep": 4, "mark": 100})
    start = RunStarted(
        created="", config=rig.settings, problem_ids=["p"], problems_sha256="", isolation=""
    )
    history = RunHistory()
    for event in [start, *rig.events]:
        history.apply(event)
    summary = summarize(history, [Problem("p", "", 42)])
    assert (summary.asked, summary.asked_answered, summary.asked_correct) == (4, 3, 1)
