"""What is known about one problem while it is being solved. Whatever fails, the vote can be taken from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from solver.config import SolverConfig, VoteConfig
from solver.journal.events import Solved
from solver.policy.consensus import early_vote, final_vote
from solver.policy.pace import Taken
from solver.policy.prune import last_scores
from solver.policy.weights import weigh
from solver.types import (
    NO_BALLOT,
    Ballot,
    Degradation,
    DegradationKind,
    Problem,
    ProblemBudget,
    PruneDecision,
    StopReason,
    Trajectory,
    Vote,
)


@dataclass(slots=True)
class ProblemState:
    """A problem on its way: its time, its trajectories, what each check decided, reasons for doubt.

    `check_s` is what checks took in seconds, and `num_scored` for how many prefixes.
    """

    problem: Problem
    budget: ProblemBudget
    trajectories: list[Trajectory] = field(default_factory=list)
    decisions: list[PruneDecision] = field(default_factory=list)
    check_s: float = 0.0
    num_scored: int = 0
    degradations: list[Degradation] = field(default_factory=list)

    def degrade(self, kind: DegradationKind, detail: str) -> None:
        """Note a reason to doubt the answer, once."""
        if (reason := Degradation(kind, detail)) not in self.degradations:
            self.degradations.append(reason)

    def waiting(self) -> list[Trajectory]:
        """Trajectories that stand at a mark or were stopped on the way to it."""
        return [t for t in self.trajectories if t.stop_reason in (None, StopReason.MARK)]

    def survivors(self) -> list[Trajectory]:
        """Those of the waiting that vote once they have ended."""
        return [t for t in self.waiting() if not self._is_dropped(t)]

    def dropped(self) -> list[Trajectory]:
        """Those of the waiting that a check dropped; only a full recording still has any."""
        return [t for t in self.waiting() if self._is_dropped(t)]

    def early_vote(self, config: VoteConfig) -> Vote | None:
        """The vote if it is decided already by ballots that nobody can still precede."""
        unfinished = [(t.num_sampled_tokens, t.index) for t in self.survivors()]
        return early_vote(self._ballots(config), unfinished, len(self.voters()), config)

    def final_vote(self, config: VoteConfig) -> Vote:
        """The vote over every ballot that was cast, by the same rule."""
        return final_vote(self._ballots(config), len(self.voters()), config)

    def voters(self) -> list[Trajectory]:
        """Those that no check dropped; a full recording finishes the dropped ones as well."""
        return [t for t in self.trajectories if not self._is_dropped(t)]

    def solved(
        self, config: SolverConfig, *, t: float, elapsed_s: float = 0.0, taken: Taken | None = None
    ) -> Solved:
        """The vote as the journal holds it, or the fallback; `t` is in seconds of the run."""
        vote = self.final_vote(config.vote)
        answer = vote.answer
        if answer is None:
            answer = config.answer.fallback_answer
            self.degrade(DegradationKind.NO_VOTE, f"no vote: fallback answer {answer}")
        return Solved(
            t=t,
            problem_id=self.problem.id,
            answer=answer,
            votes=dict(vote.counts),
            weights=dict(vote.weights),
            num_votes=vote.num_votes,
            margin=vote.margin,
            tied=vote.tied,
            decided_early=vote.decided_early,
            elapsed_s=elapsed_s,
            sampled_tokens=sum(one.num_sampled_tokens for one in self.trajectories),
            reused_tokens=sum(one.reused_tokens for one in self.trajectories),
            encoded_tokens=sum(one.encoded_tokens for one in self.trajectories),
            taken=taken,
            degradations=self.degradations,
        )

    def _is_dropped(self, trajectory: Trajectory) -> bool:
        return trajectory.stop_reason is StopReason.PRUNED or any(
            trajectory.index in decision.dropped for decision in self.decisions
        )

    def _ballots(self, config: VoteConfig) -> list[Ballot]:
        cast = [
            Ballot(
                trajectory.index,
                trajectory.answer,
                trajectory.num_sampled_tokens,
                evidence=trajectory.evidence,
            )
            for trajectory in self.voters()
            if trajectory.stop_reason not in NO_BALLOT
        ]
        return weigh(cast, last_scores(self.decisions), config)


def not_begun(problem: Problem, config: SolverConfig, t: float, why: Degradation) -> Solved:
    """The fallback for a problem that was not begun, or of which nothing is known."""
    state = ProblemState(problem, ProblemBudget(0.0, 0.0, t))
    state.degrade(why.kind, why.detail)
    return state.solved(config, t=t)
