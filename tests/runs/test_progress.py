"""What a person sees, on streams of events made by hand."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from solver.cli.progress import TokenRate
from solver.config import SolverConfig
from solver.distributed.crew import OPEN, Member
from solver.journal.events import Checked, Ended, Event, Forced, ProblemStarted, Sampled, Solved
from solver.journal.history import ProblemHistory, RunHistory
from solver.runs.progress import ProblemView, Progress, printable, solved_line
from solver.types import Problem, PruneReason, StopReason

HOSTILE = "[red]\x1b[2J\n\u202eevil[/red]"
PROBLEMS = [Problem("a", "", 17), Problem(HOSTILE, "")]


def ended(index: int, reason: StopReason, answer: int | None = None, id_: str = "a") -> Ended:
    return Ended(
        problem_id=id_, index=index, stop_reason=reason, num_sampled_tokens=9, answer=answer
    )


def sampled(t: float, tokens: int) -> Sampled:
    return Sampled(
        t=t,
        problem_id="a",
        index=0,
        token_ids=[1] * tokens,
        logprobs=[0.0] * tokens,
        reused_tokens=0,
        encoded_tokens=0,
        started=0.0,
    )


def solved(id_: str = "a", *degraded: str) -> Solved:
    return Solved(
        problem_id=id_,
        answer=17,
        votes={17: 6, 4: 2},
        num_votes=8,
        margin=4,
        tied=False,
        decided_early=False,
        elapsed_s=5.25,
        sampled_tokens=1234,
        reused_tokens=0,
        encoded_tokens=0,
        degraded=list(degraded),
    )


CHECKED = Checked(
    problem_id="a",
    kept=[0, 2],
    dropped=[1],
    scores={},
    method="confidence",
    reason=PruneReason.SCORED,
    started=0.0,
)


class Screen:
    """A progress view of 4 trajectories a problem, its clock, and what it printed."""

    def __init__(self, *, terminal: bool, limit: float | None = None) -> None:
        self.now = 0.0
        self.output = io.StringIO()
        console = Console(file=self.output, force_terminal=terminal, width=100, highlight=False)
        config = SolverConfig.model_validate(
            {"prune": {"launch": 4, "keep": 2}, "budget": {"time_limit_s": limit}}
        )
        self.progress = Progress(PROBLEMS, config, lambda: self.now, console, RunHistory())

    def table(self) -> str:
        console = Console(file=io.StringIO(), width=100)
        with console.capture() as capture:
            console.print(self.progress._table())
        return capture.get()

    def show(self, *events: Event) -> None:
        for event in events:
            self.progress.show(event)


def test_a_line_for_a_solved_problem() -> None:
    line = solved_line(solved(), PROBLEMS[0], "1/2", None)
    assert line == "[1/2] a: 17 (6 of 8), right, 1,234 tokens, 5.2 s"
    wrong = solved_line(solved(), Problem("a", "", 18), "1/2", None)
    assert ", wrong," in wrong
    unknown = solved_line(solved("a", "no time", "forced"), Problem("a", ""), "1/2", None)
    assert unknown == "[1/2] a: 17 (6 of 8), 1,234 tokens, 5.2 s; degraded: no time; forced"
    nobody = solved().model_copy(update={"num_votes": 0, "votes": {}})
    assert "17 (no votes)" in solved_line(nobody, PROBLEMS[0], "1/2", None)


def test_plain_lines_only() -> None:
    screen = Screen(terminal=False)
    with screen.progress:
        screen.show(ProblemStarted(problem_id="a", prompt_token_ids=[], allotted_s=None))
        screen.show(sampled(1.0, 5), ended(0, StopReason.ANSWERED, 17), solved())
    assert screen.output.getvalue() == "[1/2] a: 17 (6 of 8), right, 1,234 tokens, 5.2 s\n"


def test_a_log_says_where_the_run_is_while_nothing_is_solved() -> None:
    screen = Screen(terminal=False)
    screen.progress.sampled(900)
    screen.now = 30.0
    screen.progress.say_where()
    assert screen.output.getvalue() == "0 of 2 solved, 30 tokens/s, 0:30 so far\n"


def test_stages_and_counts() -> None:
    history = ProblemHistory(PROBLEMS[0])
    view = ProblemView(4, history)

    def then(*events: Checked | Ended | Forced) -> tuple[str, int, int, int]:
        for event in events:
            history.apply(event)
        return view.stage, view.alive, view.finished, view.pruned

    assert then() == ("launch", 4, 0, 0)
    assert then(ended(3, StopReason.ANSWERED, 17)) == ("launch", 3, 1, 0)
    assert then(*(ended(i, StopReason.MARK) for i in range(3))) == ("check", 3, 1, 0)
    assert then(CHECKED, ended(1, StopReason.PRUNED)) == ("resume", 2, 1, 1)
    then(ended(0, StopReason.ANSWERED, 17))
    assert view.votes == {17: 2}
    assert then(ended(2, StopReason.MAX_TOKENS)) == ("vote", 0, 3, 1)


def test_between_two_checks() -> None:
    history = ProblemHistory(PROBLEMS[0])
    view = ProblemView(4, history)
    for index in range(4):
        history.apply(ended(index, StopReason.MARK))
    history.apply(CHECKED.model_copy(update={"t": 5.0}))
    assert view.stage == "resume" and view.pruned == 1
    history.apply(ended(0, StopReason.MARK).model_copy(update={"t": 6.0}))
    assert view.stage == "resume"
    for index in (2, 3):
        history.apply(ended(index, StopReason.MARK).model_copy(update={"t": 6.0}))
    assert view.stage == "check"


def test_a_forced_answer_is_part_of_the_vote() -> None:
    history = ProblemHistory(PROBLEMS[0])
    history.apply(CHECKED)
    assert ProblemView(4, history).stage == "resume"
    history.apply(Forced(problem_id="a", index=0, appended_token_ids=[]))
    assert ProblemView(4, history).stage == "vote"


def test_the_table() -> None:
    screen = Screen(terminal=True, limit=90)
    screen.show(
        ProblemStarted(problem_id="a", prompt_token_ids=[], allotted_s=None),
        ended(0, StopReason.ANSWERED, 17),
    )
    screen.progress.sampled(100)
    screen.progress.sampled(500)
    screen.now = 12.0
    head, row, lanes, caption = (line.split() for line in screen.table().splitlines())
    assert head == ["problem", "stage", "alive", "finished", "pruned"]
    assert row == ["a", "launch", "3", "1", "0"]
    assert lanes == ["●···", "17", "━", "1"]
    assert " ".join(caption) == "0 of 2 solved, 50 tokens/s, 1:18 left of 1:30"
    screen.show(CHECKED, Forced(problem_id="a", index=1, appended_token_ids=[]))
    assert "vote" in screen.table()


def test_time_left_without_a_limit() -> None:
    screen = Screen(terminal=True)
    screen.now = 60.0
    assert screen.table().rstrip().endswith("0 tokens/s, 1:00 so far")
    screen.show(solved())
    assert "1:00 so far, about 1:00 left" in screen.table()
    screen.now = 4000.0
    assert "1:06:40 so far" in screen.table()


def test_on_a_terminal_the_lines_stay_and_the_table_goes() -> None:
    screen = Screen(terminal=True)
    with screen.progress:
        screen.show(ProblemStarted(problem_id="a", prompt_token_ids=[], allotted_s=None))
        screen.show(solved())
    printed = screen.output.getvalue()
    assert "17 (6 of 8)" in printed
    assert printed.count("\x1b[?25l") == printed.count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.parametrize("terminal", [False, True])
def test_hostile_text_is_shown_not_obeyed(terminal: bool) -> None:
    screen = Screen(terminal=terminal)
    screen.show(ProblemStarted(problem_id=HOSTILE, prompt_token_ids=[], allotted_s=None))
    table = screen.table()
    screen.show(solved(HOSTILE, "broke: [bold]\x07\r"))
    for text in (screen.output.getvalue(), table):
        assert "[red]\\x1b[2J\\n\\u202eevil[/red]" in text
        assert not {"\x1b[2J", "\x07", "\r", "\u202e"} & set(text)
    assert "[bold]\\x07\\r" in screen.output.getvalue()


def test_printable() -> None:
    assert printable("plain $x^2$ 🙂") == "plain $x^2$ 🙂"
    assert printable("x" * 100, 40) == "x" * 27 + " … " + "x" * 10
    assert len(printable("\0" * 100, 40)) == 40


def test_the_actors_of_a_cluster() -> None:
    screen = Screen(terminal=False)
    nobody: Any = None
    screen.progress.members = [
        Member(nobody, "actor 1", TokenRate(0.0), "lost: its node ended", HOSTILE, restarts=2),
        Member(nobody, "actor 2", TokenRate(0.0), OPEN, "node-b", ["a"]),
    ]
    console = Console(file=screen.output, width=100, highlight=False)
    console.print(screen.progress._table())
    shown = screen.output.getvalue()
    assert "1 of 2 actors" in shown
    assert "actor 2 on node-b" in shown and "lost: its node ended" in shown
    assert "\x1b[2J" not in shown and "\u202e" not in shown
