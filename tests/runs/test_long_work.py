"""Where long work stands: its lines in a log, on a clock set by hand, and the thread that prints them."""

from __future__ import annotations

import threading

import pytest

from solver.cli.progress import TokenRate, clock_text, rate_text, repeating
from tests.support.progress import HeardProgress


def test_a_line_says_how_far_how_fast_and_how_long() -> None:
    progress = HeardProgress()
    progress.report("problems", 0, 720)
    assert progress.line_at(20.0) == "problems: 0 of 720, 0:20 so far\n"
    progress.sampled(1_000)
    progress.report("problems", 2, 720, "45.0% right")
    progress.sampled(3_000)
    assert progress.line_at(40.0) == (
        "problems: 2 of 720, 200 tokens/s, 0:40 so far, about 3:59:20 left; 45.0% right\n"
    )
    assert "0 tokens/s" in progress.line_at(60.0), "a server that stands still is seen"
    progress.report("problems", 720, 720)
    assert progress.line_at(80.0) == ""


def test_what_earlier_processes_did_does_not_count_for_the_time_left() -> None:
    progress = HeardProgress()
    progress.report("rollouts", 800, 900)
    progress.report("rollouts", 810, 900)
    assert progress.line_at(60.0) == "rollouts: 810 of 900, 1:00 so far, about 9:00 left\n"


def test_stages_within_stages() -> None:
    """The points of an ablation, and the trainings within them, which begin anew each time."""
    progress = HeardProgress()
    progress.report("points", 0, 2, "base")
    progress.report("loading the model")
    assert progress.line_at(30.0) == (
        "points: 0 of 2, 0:30 so far; base | loading the model, 0:30 so far\n"
    )
    progress.report("steps", 0, 100)
    progress.report("steps", 100, 100)
    progress.report("points", 1, 2, "rank=8")
    progress.clock.seconds = 100.0
    progress.report("steps", 0, 100)
    progress.report("steps", 25, 100)
    assert progress.line_at(110.0) == (
        "points: 1 of 2, 1:50 so far, about 1:50 left; rank=8"
        " | steps: 25 of 100, 0:10 so far, about 0:30 left\n"
    )


def test_a_stage_that_samples_nothing_has_no_rate() -> None:
    progress = HeardProgress()
    progress.report("rollouts", 0, 1)
    progress.sampled(500)
    progress.report("rollouts", 1, 1)
    progress.report("scores", 0, 9, "mark 32")
    assert progress.line_at(25.0) == "scores: 0 of 9, 0:25 so far; mark 32\n"


def test_nothing_of_it_if_quiet() -> None:
    progress = HeardProgress(quiet=True)
    with progress:
        progress.report("problems", 1, 2)
        progress.say("epoch 1 of 8")
        assert progress.line_at(60.0) == ""


def test_on_a_terminal_it_is_bars() -> None:
    progress = HeardProgress(terminal=True)
    with progress:
        progress.report("loading the model")
        progress.report("problems", 3, 8, "45.0% right")
        progress.sampled(700)
        progress.clock.seconds = 7.0
        progress.show()
    shown = progress.output.getvalue()
    assert "3/8" in shown and "100 tokens/s  45.0% right" in shown and "loading" not in shown


@pytest.mark.parametrize("quiet", [False, True])
def test_the_lines_come_while_one_step_takes_long(
    quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread prints them: nothing is reported after the first time."""
    progress = HeardProgress(quiet=quiet)
    seen = threading.Event()
    monkeypatch.setattr("solver.cli.progress.LINE_EVERY_S", 0.001)
    monkeypatch.setattr(progress, "say", lambda line: seen.set())
    with progress:
        progress.report("loading the model")
        assert seen.wait(0.1 if quiet else 60.0) is not quiet
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_repeating_ends_with_its_block_whatever_happens() -> None:
    called = threading.Event()
    with pytest.raises(KeyError), repeating(called.set, 0.001):
        assert called.wait(60.0)
        raise KeyError
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_the_rate_is_that_since_it_was_last_asked() -> None:
    rate = TokenRate(0.0)
    rate.add(100)
    assert rate.at(1.0) == 0.0, "a second is too short to tell"
    assert rate.at(10.0) == 10.0
    rate.add(900)
    assert rate.at(12.0) == 10.0
    assert rate.at(40.0) == 30.0
    assert rate.at(50.0) == 0.0


def test_rates_and_times() -> None:
    assert [rate_text(rate).split()[0] for rate in (0.0, 0.53, 12.6, 1234.0)] == [
        "0", "0.5", "13", "1,234",
    ]  # fmt: skip
    assert [clock_text(seconds) for seconds in (-3, 59.6, 4000)] == ["0:00", "1:00", "1:06:40"]
