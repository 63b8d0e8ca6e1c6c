"""Room in a full cache: the problem that needs some drops its least promising trajectory before the mark."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

MakeRoom = Callable[[], Awaitable[bool]]


class Pressure:
    """The problems that are on their way to a mark, by id, and how each of them makes room."""

    def __init__(self) -> None:
        self._problems: dict[str, MakeRoom] = {}

    @contextmanager
    def relieved_by(self, problem_id: str, make_room: MakeRoom) -> Iterator[None]:
        """While inside, `make_room` is asked to drop a trajectory; it says whether it did."""
        self._problems[problem_id] = make_room
        try:
            yield
        finally:
            del self._problems[problem_id]

    async def relieve(self, trajectory_id: str) -> bool:
        """Make room for a trajectory, at the cost of its own problem if that can; whether there is some."""
        own, _, _ = trajectory_id.rpartition("#")
        for problem_id in sorted(self._problems, key=lambda name: name != own):
            make_room = self._problems.get(problem_id)
            if make_room is not None and await make_room():
                return True
        return False
