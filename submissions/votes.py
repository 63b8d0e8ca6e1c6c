"""The vote of an unfinished problem, sent to the notebook whenever it changes."""

from __future__ import annotations

from collections.abc import Callable

from solver.config import VoteConfig
from solver.journal.events import Event
from solver.journal.history import ProblemEvent, ProblemHistory
from solver.policy.consensus import decide
from solver.policy.weights import weigh
from submissions.protocol import Message, VoteSoFar


class VotesSoFar:
    """Counts the ballots of one problem by the same rule as the final vote."""

    def __init__(self, config: VoteConfig, send: Callable[[Message], None]) -> None:
        self._config, self._send = config, send
        self._problem: ProblemHistory | None = None
        self._sent_answer: int | None = None

    def begin(self, problem: ProblemHistory) -> None:
        """Begin a problem, with what is left of it from an earlier worker."""
        self._problem, self._sent_answer = problem, None
        self._send_vote(problem)

    def observe(self, event: Event) -> None:
        """Count the ballot in an event, if it is one of this problem's."""
        problem = self._problem
        if problem is None or not isinstance(event, ProblemEvent):
            return
        if event.problem_id == problem.id:
            problem.apply(event)
            self._send_vote(problem)

    def _send_vote(self, problem: ProblemHistory) -> None:
        ballots = weigh(problem.ballots, problem.last_scores, self._config)
        vote = decide(ballots, len(ballots), self._config)
        if vote is None or vote.answer is None or vote.answer == self._sent_answer:
            return
        self._sent_answer = vote.answer
        self._send(VoteSoFar(problem_id=problem.id, answer=vote.answer))
