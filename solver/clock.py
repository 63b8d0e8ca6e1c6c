"""The run's clock. Deadlines everywhere are absolute seconds on it."""

import time


class MonotonicClock:
    """`time.monotonic`, which is also what asyncio's event loop keeps."""

    def now(self) -> float:
        """Seconds; only differences mean anything."""
        return time.monotonic()
