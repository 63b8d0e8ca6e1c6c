"""The vote of an unfinished problem, sent to the notebook whenever it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from solver.config import VoteConfig
from solver.journal.events import Checked, Ended, Event
from solver.policy.consensus import decide
from solver.policy.weights import weigh
from solver.types import NO_BALLOT, Ballot, Trajectory
from submissions.protocol import Message, VoteSoFar


class VotesSoFar:
    """Counts the ballots of one problem by the same rule as the final vote."""

    def __init__(self, config: VoteConfig, send: Callable[[Message], None]) -> None:
        self._config, self._send = config, send
        self._problem_id = ""
        self._ballots: dict[int, Ballot] = {}
        self._dropped: frozenset[int] = frozenset()
        self._scores: Mapping[int, float] = {}
        self._sent_answer: int | None = None

    def begin(self, problem_id: str, finished: Iterable[Trajectory]) -> None:
        """Begin a problem; `finished` are trajectories that an earlier worker completed."""
        self._problem_id, self._sent_answer = problem_id, None
        self._dropped, self._scores = frozenset(), {}
        self._ballots = {
            t.index: Ballot(t.index, t.answer, t.num_sampled_tokens)
            for t in finished
            if t.stop_reason not in NO_BALLOT
        }
        self._send_vote()

    def observe(self, event: Event) -> None:
        """Count the ballot in an event, if it is one of this problem's."""
        if getattr(event, "problem_id", None) != self._problem_id:
            return
        if isinstance(event, Checked):
            self._dropped, self._scores = frozenset(event.dropped), event.scores
        elif isinstance(event, Ended) and event.stop_reason not in NO_BALLOT:
            if event.index in self._dropped:  # a full recording finishes them, but they do not vote
                return
            self._ballots[event.index] = Ballot(event.index, event.answer, event.num_sampled_tokens)
            self._send_vote()

    def _send_vote(self) -> None:
        ballots = weigh(self._ballots.values(), self._scores, self._config)
        vote = decide(ballots, len(ballots), self._config)
        if vote is None or vote.answer is None or vote.answer == self._sent_answer:
            return
        self._sent_answer = vote.answer
        self._send(VoteSoFar(problem_id=self._problem_id, answer=vote.answer))
