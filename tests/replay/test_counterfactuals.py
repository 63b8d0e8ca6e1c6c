"""What would have been, on runs where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from solver.config import VoteConfig
from solver.journal.recorded_run import RecordedRun
from solver.replay.counterfactuals import leader_shares, pruned, stop_rules, votes_over_time
from solver.replay.policy import Policy
from solver.replay.quality import score_qualities
from solver.replay.speeds import Speeds
from solver.replay.sweep import Replay
from solver.replay.ways import vote_ways
from solver.types import Check, Trajectory
from tests.replay.runs import Judge, full, recorded
from tests.support.rig import Rig, every, problem, says

STILL = Speeds(0.01, 0.0, 0.0, 0.0, 0.0)
PRUNE = {"launch": 6, "keep": 2, "mark": 10, "scorer": "stop"}
ANSWERS = [1, 5, 5, 1, 5, 5]  # 5 is right


class ByMark(Judge):
    """Its scores are by mark, each a list by index."""

    def __init__(self, scores: Mapping[int, Sequence[float]]) -> None:
        super().__init__("stop", {})
        self._by_mark = scores

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        return [self._by_mark[t.num_sampled_tokens][t.index] for t in trajectories]


def run(place: Path, scores: list[float], keep: int = 2) -> RecordedRun:
    judge = Judge("stop", {f"p#{i}": score for i, score in enumerate(scores)})
    tales = every([says(answer, 20 + 10 * i) for i, answer in enumerate(ANSWERS)])
    rig = Rig(says=tales, settings=full(prune={**PRUNE, "keep": keep}), scorer=judge)
    return recorded(place, rig, [problem(answer=5)], (judge,))


def test_pruning_that_lost_the_answer(tmp_path: Path) -> None:
    recording = run(tmp_path / "run", [2.0, 0.0, -1.0, 1.0, -2.0, -3.0])  # the wrong ones first
    [[one]] = Replay([recording], STILL).problems
    end = pruned(one, Policy.of(recording.config), 0)
    assert (end.voters, end.dropped) == ({1: 2}, {5: 4})
    assert (end.right_voters, end.right_dropped, end.lost, end.won) == (0, 4, True, False)
    assert (end.vote.answer, end.vote_of_all.answer) == (1, 5)


def test_pruning_that_lost_nothing(tmp_path: Path) -> None:
    recording = run(tmp_path / "run", [-2.0, 2.0, 3.0, -1.0, -1.5, -1.6])
    [[one]] = Replay([recording], STILL).problems
    end = pruned(one, Policy.of(recording.config), 0)
    assert (end.voters, end.lost, end.won) == ({5: 2}, False, False)


def test_scores_are_judged(tmp_path: Path) -> None:
    perfect = [-3.0, 3.0, 3.0, -3.0, 3.0, 3.0]
    recording = run(tmp_path / "run", perfect)
    found = {q.scorer: q for q in score_qualities(Replay([recording], STILL).problems[0], 10)}
    # the others have nothing to go by
    assert set(found) == {"stop", "confidence", "similarity", "failed-tool-calls"}
    stop = found["stop"]
    assert (stop.within, stop.overall, stop.num_prefixes) == (1.0, 1.0, 6)
    assert [(b.count, b.observed) for b in stop.bins] == [(2, 0.0), (4, 1.0)]
    assert stop.brier is not None and stop.brier < 0.01
    assert found["confidence"].overall == 0.5 and not found["confidence"].bins


def test_the_vote_as_time_went_by(tmp_path: Path) -> None:
    recording = run(tmp_path / "run", [2.0, 1.0, -1.0, -2.0, -2.0, -3.0])  # a 1, then a 5
    [record] = recording.problems
    standings = votes_over_time(record, recording.config.vote)
    assert [s.vote.counts for s in standings] == [{1: 1}, {1: 1, 5: 1}]
    assert standings[0].seconds < standings[1].seconds
    assert leader_shares([standings, []], (0.0, 1.0)) == [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]


def test_weights_are_those_of_the_check(tmp_path: Path) -> None:
    """A 1 that is believed, and two 5s that are not, go on."""
    recording = run(tmp_path / "run", [3.0, -2.0, -2.0, -9.0, -9.0, -9.0], keep=3)
    [record], weighted = recording.problems, VoteConfig(rule="weighted", stop="off")
    answers = [s.vote.answer for s in votes_over_time(record, weighted)]
    assert answers == [1, 1, 1]
    assert [s.vote.answer for s in votes_over_time(record, recording.config.vote)] == [1, 1, 5]
    replay = Replay([recording], STILL)
    policy = replace(Policy.of(recording.config), vote=weighted)
    [[one]] = replay.problems
    end = pruned(one, policy, 0)
    assert (end.vote.answer, end.vote.counts) == (1, {1: 1, 5: 2})
    assert end.vote_of_all.weights == pytest.approx({1: 0.9527, 5: 0.2387}, abs=1e-4)
    assert [rule.num_right for rule in stop_rules(replay, policy)] == [0, 0, 0]
    assert [rule.num_right for rule in stop_rules(replay, Policy.of(recording.config))] == [1, 1, 1]


def test_rules_never_change_a_vote_that_is_clear(tmp_path: Path) -> None:
    recording = run(tmp_path / "run", [0.0] * 6)
    replay = Replay([recording], STILL)
    everybody = Policy.of(recording.config)
    everybody = Policy(6, (Check(10, 6),), "none", everybody.vote)
    off, certain, posterior = stop_rules(replay, everybody)
    assert (off.stop, certain.stop, posterior.stop) == ("off", "certain", "posterior")
    assert off.num_right == certain.num_right == 1 and not certain.num_changed
    assert off.num_early == 0
    assert posterior.tokens <= certain.tokens <= off.tokens
    assert certain.seconds <= off.seconds == pytest.approx(0.01 * (20 + 50 + 15), rel=0.5)


def test_other_ways_of_voting(tmp_path: Path) -> None:
    scores = {f"p#{i}": score for i, score in enumerate([-2.0, 2.0, 3.0, -1.0, -1.5, -1.6])}
    answers = [1, 1, 5, 1, 5, 1]
    last = Judge(
        "stop", {f"p#{i}": 4.0 if answer == 5 else -4.0 for i, answer in enumerate(answers)}
    )
    judge = Judge("stop", scores)
    tales = every([says(answer, 20 + 10 * i) for i, answer in enumerate(answers)])
    rig = Rig(says=tales, settings=full(prune=PRUNE), scorer=judge, last_check=last)
    recording = recorded(tmp_path / "run", rig, [problem(answer=5)], (judge,))
    replay = Replay([recording], STILL)
    rows = {(row.pruned_by, row.way): row for row in vote_ways(replay, Policy.of(recording.config))}
    assert {way for _, way in rows} == {
        "majority", "weighted by stop", "verified", "best by stop", "best by verified", "oracle"
    }  # fmt: skip
    assert rows[None, "majority"].right.value == 0.0
    assert rows[None, "verified"].right.value == rows[None, "best by verified"].right.value == 1.0
    assert (rows[None, "verified"].num_voters, rows["stop", "verified"].num_voters) == (6.0, 2.0)
    within = rows[None, "verified"].within
    assert within is not None and within.value == 1.0


def test_ways_of_voting_after_several_checks(tmp_path: Path) -> None:
    """The second check has scores of its own: they drop the third trajectory and weigh the ballots."""
    answers = [1, 1, 1, 5]
    judge = ByMark({10: [-3.0, 2.0, 3.0, 1.0], 20: [-3.0, 2.0, -4.0, 4.0]})
    stages = {"launch": 4, "stages": [[10, 3], [20, 2]], "scorer": "stop"}
    tales = every([says(answer, 40 + 10 * i) for i, answer in enumerate(answers)])
    rig = Rig(says=tales, settings=full(prune=stages), scorer=judge)
    recording = recorded(tmp_path / "run", rig, [problem(answer=5)], (judge,))
    rows = {
        (row.pruned_by, row.way): row
        for row in vote_ways(Replay([recording], STILL), Policy.of(recording.config))
    }
    assert rows["stop", "majority"].num_voters == 2.0
    assert rows[None, "best by stop"].right.value == 1.0
    within = rows["stop", "weighted by stop"].within
    assert within is not None and within.value == 1.0  # 2 of the wrong one, 4 of the right one
