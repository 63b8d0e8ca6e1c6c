"""The commands that make and judge STOP adapters: collect rollouts, train, evaluate, ablate, plan, convert.

It refuses to solve problems for a user: runs only ever use `solver.adapter`, through a scorer.
"""
