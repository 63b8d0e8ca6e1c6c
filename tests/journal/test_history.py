"""Trajectories out of a journal: what ended for good comes back as it was, the rest does not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from solver.journal.events import Checked, Ended, Event, Solved
from solver.journal.history import history_of
from solver.journal.reader import JournalReader
from solver.journal.writer import JournalWriter
from solver.solving.session import answer_problem
from solver.solving.state import ProblemState
from solver.types import ProblemBudget, StopReason, Trajectory
from tests.replay.runs import Judge
from tests.support import run_virtual
from tests.support.journals import run_history
from tests.support.rig import Rig, budget, config, every, problem, says

CALL = "```python\nprint(1)\n```\n"


def finished(events: Iterable[Event], problem_id: str, seed: int) -> list[Trajectory]:
    return history_of(events, problem_id, seed).finished_trajectories()


async def solved(rig: Rig, finished=()):  # type: ignore[no-untyped-def]
    return await answer_problem(problem(), budget(100.0), rig.services(), finished)


def rig() -> Rig:
    texts = every([says(1, 30), f"{CALL} so {says(2, 5)}", says(1, 3), says(7)])
    return Rig(texts, settings=config(vote={"stop": "off"}))


def staged() -> Rig:
    """Six to the first mark, three to the second, one to its end; one ends between the marks."""
    texts = every([says(index, 30 if index != 4 else 5) for index in range(6)])
    prune = {"launch": 6, "mark": 10, "keep": 1, "stages": [[10, 3], [20, 1]], "scorer": "stop"}
    judge = Judge("stop", {f"p#{index}": float(index) for index in range(6)})
    return Rig(texts, settings=config(prune=prune, vote={"stop": "off"}), scorer=judge)


def test_a_run_goes_on_in_the_middle_of_a_stage() -> None:
    """Whenever the process ends: the same are kept at each mark, with the same tokens and votes."""
    first = staged()
    answer = run_virtual(solved(first))
    assert answer.votes == {4: 1, 5: 1} and len(first.of(Checked)) == 2
    whole = finished(first.events, "p", 0)
    for cut in range(len(first.events)):
        again = staged()
        second = run_virtual(solved(again, finished(first.events[:cut], "p", 0)))
        assert second.votes == answer.votes, cut
        both = finished([*first.events[:cut], *again.events], "p", 0)
        assert [(t.index, t.stop_reason, t.token_ids) for t in both] == [
            (t.index, t.stop_reason, t.token_ids) for t in whole
        ], cut


def test_everything_that_ended_comes_back_token_by_token() -> None:
    first = rig()
    answer = run_virtual(solved(first))
    back = finished(first.events, "p", first.settings.seed)
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
        back = finished(first.events[:cut], "p", first.settings.seed)
        again = rig()
        second = run_virtual(solved(again, back))
        assert (second.answer, second.votes) == (answer.answer, answer.votes), cut


def test_a_second_crash_keeps_what_either_process_finished() -> None:
    first = rig()
    run_virtual(solved(first))
    whole = finished(first.events, "p", first.settings.seed)
    for cut in range(len(first.events)):
        back = finished(first.events[:cut], "p", first.settings.seed)
        second = rig()
        run_virtual(solved(second, back))
        both = finished([*first.events[:cut], *second.events], "p", 0)
        assert [(t.index, t.answer, t.token_ids) for t in both] == [
            (t.index, t.answer, t.token_ids) for t in whole
        ], cut


def test_who_was_dropped_stays_dropped_and_does_not_vote() -> None:
    first = rig()
    run_virtual(solved(first))
    cut, checked = next((i, e) for i, e in enumerate(first.events) if isinstance(e, Checked))
    back = finished(first.events[: cut + 1], "p", first.settings.seed)
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
    assert {t.stop_reason for t in finished(broken, "p", 0)} <= {StopReason.PRUNED}
    assert finished(first.events, "q", 0) == []


def test_skimming_passes_over_what_is_damaged(tmp_path: Path) -> None:
    first = rig()
    answer = run_virtual(solved(first))
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path, print)
    for event in (*first.events, answer):
        writer.record(event)
    writer.close()
    whole = read(path)
    assert len(whole) == len(first.events) + 1
    assert [e for e in read(path, '"type":"solved"') if isinstance(e, Solved)] == [answer]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((lines[0], b"{nonsense\n", *lines[1:], lines[-1][:-1])))
    assert read(path) == whole


def test_what_is_run_anew_all_the_same_counts_once() -> None:
    """A run that is resumed begins a problem anew, and so does a second try of a submission."""
    first = rig()
    answer = run_virtual(solved(first))
    again = [*first.events[:-1], *first.events, answer]
    history = history_of(again, "p", first.settings.seed)
    once = history_of([*first.events, answer], "p", first.settings.seed)
    assert history.finished_trajectories() == once.finished_trajectories()
    assert run_history(again).problems == run_history([*first.events, answer]).problems


def read(path: Path, mentioning: str = "") -> list[Event]:
    reader = JournalReader(path, tolerant=True)
    return [event for event, _ in reader.events(mentioning)]
