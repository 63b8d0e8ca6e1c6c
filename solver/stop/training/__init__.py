"""Training: the base model, prefix caches, batches, epochs, checkpoints, and the verifier as a baseline.

Examples of another model, of another mark or of test problems raise an error.
"""
