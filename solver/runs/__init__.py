"""A run of the command: its settings, its folder on disk, signals, live view and results on the screen.

It refuses to decide anything about trajectories or votes.
"""
