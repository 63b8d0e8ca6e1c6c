"""Settings of every suite."""

from hypothesis import settings

# Machines are shared and noisy: no test of ours is about time, so no example has a deadline.
settings.register_profile("stop-solver", deadline=None)
settings.load_profile("stop-solver")
