"""Evaluation: every way of pruning on the same rollouts, as tables, curves and intervals.

All methods are compared on the same samples; nothing is sampled for one of them alone.
"""
