"""Stateful Jupyter kernels for model-written Python: leased, bounded, replaced when lost."""
