"""Training: the base model, prefix caches, batches, epochs, checkpoints, and the verifier as a baseline.

It refuses examples of another model or mark, and examples of test problems.
"""
