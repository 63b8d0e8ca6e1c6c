"""Events made by hand, as the history that a journal of them would be."""

from __future__ import annotations

from collections.abc import Iterable

from solver.journal.events import Event
from solver.journal.history import RunHistory


def run_history(events: Iterable[Event]) -> RunHistory:
    history = RunHistory()
    for event in events:
        history.apply(event)
    return history
