"""What is kept at the end of a run for writing its answers, from what writing took so far."""

from __future__ import annotations

from dataclasses import dataclass

_RECENT = 8  # answers
_FILES = 6  # written at the end: the journal's last line, the answers twice, the summary, and some output
_ENDING_S = 0.1  # the process's own end


@dataclass(frozen=True, slots=True)
class Closing:
    """`expected_s` counts until an answer was written; `recent` are the seconds that the last ones took."""

    expected_s: float
    recent: tuple[float, ...] = ()

    def after(self, seconds: float) -> Closing:
        """What is known once another answer was written in so many seconds."""
        return Closing(self.expected_s, (*self.recent, seconds)[-_RECENT:])

    def seconds(self, problems_left: int) -> float:
        """What the end takes if all that are left have their answers written at once.

        problems_left * mean + files * longest + the process's end
        """
        if not self.recent:
            return self.expected_s
        mean = sum(self.recent) / len(self.recent)
        return problems_left * mean + _FILES * max(self.recent) + _ENDING_S
