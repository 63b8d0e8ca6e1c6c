"""Evaluation: every way of pruning on the same rollouts, as tables, curves and intervals.

It refuses to sample differently for different methods.
"""
