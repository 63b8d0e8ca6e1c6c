"""The run's clock. Deadlines everywhere are absolute seconds on it."""

import os
import time
from pathlib import Path


class MonotonicClock:
    """`time.monotonic`, which is also what asyncio's event loop keeps."""

    def now(self) -> float:
        """Seconds; only differences mean anything."""
        return time.monotonic()


def process_start() -> float:
    """When this process began, on our clock, so that interpreter start-up and imports count."""
    now = MonotonicClock().now()
    try:
        # psutil knows it as wall time only, which is a second off where the boot time is rounded.
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError):  # not Linux
        import psutil

        age = time.time() - psutil.Process().create_time()
    return now - max(0.0, age)
