"""Training: the base model, prefix caches, batches, epochs, checkpoints, and the verifier as a baseline.

Prefixes beyond the vocabulary or the mark, and a problem on both sides, raise an error.
"""
