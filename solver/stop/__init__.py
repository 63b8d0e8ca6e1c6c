"""The commands that make and judge STOP adapters: collect rollouts, train, evaluate, ablate, plan, convert.

A run does not import this package: it uses `solver.adapter`, through a scorer.
"""
