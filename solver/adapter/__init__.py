"""The learned STOP adapter: its gate on a torch model, its folder on disk, its ids, fingerprint and score.

It neither samples nor trains nor decides who is kept: scorers use it, `solver.stop` trains it.
"""
