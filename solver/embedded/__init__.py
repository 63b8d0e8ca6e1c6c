"""The embedded default model: problem families, corpus, tokenizer, training and the weights.

Everything a fresh machine needs to run the solver for real, with no model hub in reach. Importing
this package loads neither torch nor transformers.
"""
