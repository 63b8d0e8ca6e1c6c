"""A replay of the policy that was run is what the run said; so is one of any other policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from solver.config import SolverConfig
from solver.journal.events import Ended
from solver.journal.recorded_run import RecordedRun, load
from solver.policy.prune import last_scores
from solver.replay.policy import Policy
from solver.replay.problem import NotRecorded, replay_problems
from solver.replay.speeds import Speeds
from solver.replay.sweep import Replay
from solver.replay.votes import decisions, vote_of
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.declaration import ComputedScorer
from solver.types import NO_EVIDENCE, Check, PruneDecision, StopReason
from tests.replay.runs import Judge, full, play, recorded, write
from tests.support.rig import END, Rig, config, every, problem, says

STILL = Speeds(0.01, 0.0, 0.0, 0.0, 0.0)


def tale(answer: int | None, before: int, calls: int, after: int) -> str:
    """Dots, calls, dots, and an answer or none."""
    call = "```python\nprint(1)\n```\n"
    ending = says(answer, after) if answer is not None else "." * after + "no box" + END
    return "." * before + "\n" + call * calls + ending


TALES = st.builds(
    tale, st.sampled_from([None, 1, 1, 2, 3]), st.integers(0, 30), st.integers(0, 2),
    st.integers(0, 60),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What every trajectory writes, how sure it is, how a judge finds it, and two policies."""

    tales: list[str]
    logprobs: list[float]
    logits: list[float]
    candidates: list[tuple[float, float]]
    verified: list[float]
    run: dict[str, object]
    other: dict[str, object]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num = draw(st.integers(2, 8))

    def pruning(launch: int) -> dict[str, object]:
        """One check, or several."""
        keeps = sorted(draw(st.sets(st.integers(1, launch), min_size=1, max_size=3)), reverse=True)
        size = len(keeps)
        marks = sorted(draw(st.sets(st.integers(1, 60), min_size=size, max_size=size)))
        stages = list(zip(marks, keeps, strict=True)) if size > 1 else None
        return {"mark": marks[0], "keep": keeps[-1], "stages": stages}

    def policy() -> dict[str, object]:
        launch = draw(st.integers(1, num))
        scorer = draw(st.sampled_from(["stop", "stop", "confidence", "random", "none"]))
        rules = [
            "majority",
            "confidence",
            "entropy",
            "verified",
            *["weighted"] * (scorer == "stop"),
        ]
        return {
            "prune": {
                "launch": launch,
                "scorer": scorer,
                **pruning(launch),
            },
            "vote": {
                "rule": draw(st.sampled_from(rules)),
                "stop": draw(st.sampled_from(["posterior", "certain", "off"])),
            },
            "sampling": {"max_tokens": draw(st.sampled_from([60, 75, 400]))},
        }

    one, two = policy(), policy()
    two["sampling"] = one["sampling"]
    logprobs = st.floats(-2, 0).map(lambda x: round(x, 3))
    return Case(
        draw(st.lists(TALES, min_size=num, max_size=num)),
        draw(st.lists(logprobs, min_size=num, max_size=num)),
        draw(st.lists(st.floats(-5, 5), min_size=num, max_size=num)),
        draw(st.lists(st.tuples(st.floats(3, 20), st.floats(0, 2)), min_size=num, max_size=num)),
        draw(st.lists(st.floats(-5, 5), min_size=num, max_size=num)),
        one,
        two,
    )


def run_of(case: Case, settings: SolverConfig, place: Path) -> RecordedRun:
    logprobs = {f"p#{i}": value for i, value in enumerate(case.logprobs)}
    judge = Judge("stop", {f"p#{i}": value for i, value in enumerate(case.logits)})
    scorers = {"stop": judge, "confidence": ComputedScorer(CONFIDENCE)}
    scorer = scorers.get(settings.prune.scorer)
    candidates = {f"p#{i}": told for i, told in enumerate(case.candidates)}
    rig = Rig(
        says=every(case.tales),
        settings=settings,
        logprobs=logprobs,
        candidates=candidates,
        scorer=scorer,
        last_check=Judge("stop", {f"p#{i}": value for i, value in enumerate(case.verified)}),
    )
    return recorded(place, rig, [problem(answer=1)], (judge,) if settings.record == "full" else ())


def in_full(case: Case) -> SolverConfig:
    """A full recording of all, whatever the policies would launch, scored at the marks of both."""
    prune, other = case.run["prune"], config(**case.other).prune
    settings = full(**{**case.run, "prune": {**prune, "launch": len(case.tales)}})  # type: ignore[dict-item]
    marks = tuple(check.mark for check in other.checks)
    return SolverConfig.model_validate(settings.model_dump() | {"record_marks": marks})


def left(indices: Sequence[int], decided: Sequence[PruneDecision]) -> list[int]:
    return [i for i in indices if all(i not in decision.dropped for decision in decided)]


# It ends its turn without an answer exactly at the mark, is asked for one, and that fails.
FAILS_WHEN_ASKED = Case(
    tales=[tale(None, 11, 1, 13), tale(None, 21, 0, 43)],
    logprobs=[0.0, 0.0],
    logits=[0.0, 0.0],
    candidates=[(3.0, 0.0), (3.0, 0.0)],
    verified=[0.0, 0.0],
    run={"prune": {"launch": 2, "keep": 1, "mark": 1, "scorer": "stop"}},
    other={"prune": {"launch": 2, "keep": 1, "mark": 55, "scorer": "stop"}},
)


@settings(max_examples=60)
@example(FAILS_WHEN_ASKED)
@given(cases())
def test_any_policy_replayed_is_that_policy_run(case: Case) -> None:
    with TemporaryDirectory() as folder:
        recording = run_of(case, in_full(case), Path(folder) / "full")
        real = run_of(case, config(**case.other), Path(folder) / "real")
        solved, checks = real.problems[0].solved, real.problems[0].checks
        assert solved is not None and all(checked.error is None for checked in checks)
        policy = Policy.of(real.config)
        [one] = replay_problems(recording)
        indices = one.indices[: policy.launch]
        decided = decisions(one, policy, indices, run_seed=0)
        prunes = policy.scorer != "none"
        for decision, checked in zip(decided[: None if prunes else 1], checks, strict=True):
            assert list(decision.dropped) == checked.dropped and decision.scores == checked.scores
        vote = vote_of(one, left(indices, decided), last_scores(decided), policy.vote)
        assert (vote.counts, vote.num_votes) == (solved.votes, solved.num_votes)
        assert (vote.weights, vote.margin) == (solved.weights, solved.margin)
        assert (vote.decided_early, vote.tied) == (solved.decided_early, solved.tied)
        # the same on the simulated clock, which decides when everybody is stopped
        [outcome] = Replay([recording], STILL).session(0, policy, 0)
        assert outcome.vote == vote
        assert outcome.tokens == pytest.approx(solved.sampled_tokens, abs=policy.launch)


@settings(max_examples=30)
@given(cases())
def test_every_run_replays_its_own_vote(case: Case) -> None:
    """Ordinary runs too: what their own policy needs is there."""
    with TemporaryDirectory() as folder:
        real = run_of(case, config(**case.run), Path(folder) / "real")
        own = run_of(case, full(**case.run), Path(folder) / "full")
        for recording in (real, own):
            solved = recording.problems[0].solved
            assert solved is not None
            policy = Policy.of(recording.config)
            [one] = replay_problems(recording)
            decided = decisions(one, policy, one.indices, 0)
            vote = vote_of(one, left(one.indices, decided), last_scores(decided), policy.vote)
            assert (vote.counts, vote.weights) == (solved.votes, solved.weights)
        # a full recording answers what its policy would have answered
        answers = [r.problems[0].solved for r in (real, own)]
        assert answers[0] is not None and answers[1] is not None
        assert answers[0].votes == answers[1].votes


def test_what_was_pruned_cannot_be_asked(tmp_path: Path) -> None:
    tales = every([says(1, 60)] * 4)
    recording = recorded(tmp_path / "run", Rig(says=tales), [problem()])
    stops = [t.trajectory.stop_reason for t in recording.problems[0].trajectories.values()]
    assert stops.count(StopReason.PRUNED) == 2
    [one] = replay_problems(recording)
    policy = replace(Policy.of(recording.config), checks=(Check(10, 4),))
    assert not decisions(one, policy, one.indices, 0)[0].dropped
    with pytest.raises(NotRecorded, match="--record full"):
        vote_of(one, one.indices, {}, policy.vote)
    with pytest.raises(NotRecorded, match="--record full"):
        Replay([recording], STILL).session(0, policy, 0)


@pytest.mark.parametrize("rule", ["confidence", "entropy", "verified"])
def test_without_evidence_there_is_nothing_to_weigh_by(tmp_path: Path, rule: str) -> None:
    recording = recorded(
        tmp_path / "run", Rig(says=every([says(1, 60)] * 4), settings=full()), [problem()]
    )
    [one] = replay_problems(recording)
    own = Policy.of(recording.config)
    policy = replace(own, vote=own.vote.model_copy(update={"rule": rule}))
    with pytest.raises(NotRecorded, match=f"vote={rule} weighs by: record with --record full"):
        vote_of(one, one.indices, {}, policy.vote)


def test_a_recording_from_before_the_evidence_is_weighed_by_its_tokens(tmp_path: Path) -> None:
    told = {f"p#{i}": (5.0 + i, 0.5) for i in range(4)}
    rig = Rig(says=every([says(1, 60)] * 4), settings=full(), candidates=told)
    play(rig, [problem()])
    old = [
        event.model_copy(update={"evidence": NO_EVIDENCE}) if isinstance(event, Ended) else event
        for event in rig.events
    ]
    known = load(write(tmp_path / "new", rig.settings, [problem()], rig.events))
    before = load(write(tmp_path / "old", rig.settings, [problem()], old))
    [[one], [other]] = replay_problems(known), replay_problems(before)
    assert other.paths[3].ballot.evidence.confidence == pytest.approx(8.0)
    assert {i: p.ballot for i, p in one.paths.items()} == {
        i: p.ballot for i, p in other.paths.items()
    }
