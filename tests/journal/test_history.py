"""Trajectories out of a journal: what ended for good comes back as it was, the rest does not."""

from __future__ import annotations

from pathlib import Path

from solver.journal.events import Checked, Ended, Solved
from solver.journal.history import finished_trajectories
from solver.journal.reader import skim
from solver.journal.writer import JournalWriter
from solver.solving.session import answer_problem
from solver.solving.state import ProblemState
from solver.types import ProblemBudget, StopReason
from tests.support import run_virtual
from tests.support.rig import Rig, budget, config, every, problem, says

CALL = "```python\nprint(1)\n```\n"


async def solved(rig: Rig, finished=()):  # type: ignore[no-untyped-def]
    return await answer_problem(problem(), budget(100.0), rig.services(), finished)


def rig() -> Rig:
    texts = every([says(1, 30), f"{CALL} so {says(2, 5)}", says(1, 3), says(7)])
    return Rig(texts, settings=config(vote={"stop": "off"}))


def test_everything_that_ended_comes_back_token_by_token() -> None:
    first = rig()
    answer = run_virtual(solved(first))
    back = finished_trajectories(first.events, "p", first.settings.seed)
    ends = {e.index: e for e in first.of(Ended) if e.stop_reason is not StopReason.MARK}
    assert [t.index for t in back] == sorted(ends)
    for trajectory in back:
        assert trajectory.stop_reason is ends[trajectory.index].stop_reason
        assert trajectory.answer == ends[trajectory.index].answer
        assert trajectory.num_sampled_tokens == ends[trajectory.index].num_sampled_tokens
    again = rig()
    second = run_virtual(solved(again, back))
    assert (second.answer, second.votes) == (answer.answer, answer.votes)
    assert again.requests == [], "nothing is sampled a second time"


def test_what_was_under_way_begins_again_and_votes_stay() -> None:
    first = rig()
    answer = run_virtual(solved(first))
    for cut in range(len(first.events)):
        back = finished_trajectories(first.events[:cut], "p", first.settings.seed)
        again = rig()
        second = run_virtual(solved(again, back))
        assert (second.answer, second.votes) == (answer.answer, answer.votes), cut


def test_a_second_crash_keeps_what_either_process_finished() -> None:
    first = rig()
    run_virtual(solved(first))
    whole = finished_trajectories(first.events, "p", first.settings.seed)
    for cut in range(len(first.events)):
        back = finished_trajectories(first.events[:cut], "p", first.settings.seed)
        second = rig()
        run_virtual(solved(second, back))
        both = finished_trajectories([*first.events[:cut], *second.events], "p", 0)
        assert [(t.index, t.answer, t.token_ids) for t in both] == [
            (t.index, t.answer, t.token_ids) for t in whole
        ], cut


def test_who_was_dropped_stays_dropped_and_does_not_vote() -> None:
    first = rig()
    run_virtual(solved(first))
    cut, checked = next((i, e) for i, e in enumerate(first.events) if isinstance(e, Checked))
    back = finished_trajectories(first.events[: cut + 1], "p", first.settings.seed)
    dropped = {t.index for t in back if t.stop_reason is StopReason.PRUNED}
    assert dropped == set(checked.dropped) != set()
    state = ProblemState(problem(), ProblemBudget(1.0, 0.0, 1.0), back)
    assert dropped.isdisjoint(t.index for t in state.voters())


def test_errors_and_other_problems_do_not_count() -> None:
    first = rig()
    run_virtual(solved(first))
    broken = [
        e.model_copy(update={"stop_reason": StopReason.ERROR}) if isinstance(e, Ended) else e
        for e in first.events
    ]
    assert {t.stop_reason for t in finished_trajectories(broken, "p", 0)} <= {StopReason.PRUNED}
    assert finished_trajectories(first.events, "q", 0) == []


def test_skimming_passes_over_what_is_damaged(tmp_path: Path) -> None:
    first = rig()
    answer = run_virtual(solved(first))
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path, print)
    for event in (*first.events, answer):
        writer.record(event)
    writer.close()
    whole = list(skim(path))
    assert len(whole) == len(first.events) + 1
    assert [e for e in skim(path, '"type":"solved"') if isinstance(e, Solved)] == [answer]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((lines[0], b"{nonsense\n", *lines[1:], lines[-1][:-1])))
    assert list(skim(path)) == whole
