"""The learned STOP adapter: its gate on a torch model, its folder on disk, its ids, fingerprint and score.

It refuses to sample, to train and to choose: scorers ask it, `solver.stop` trains it.
"""
