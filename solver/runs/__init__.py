"""A run of the command: its settings, its folder on disk, signals, live view and results on the screen.

Decisions about trajectories and votes are not made here: they are in `solver.policy`.
"""
