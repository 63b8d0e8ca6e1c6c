"""The embedded default model: problem families, corpus, tokenizer, training and the weights.

With it the solver runs on a machine that has no model and no access to a model hub. Importing
this package loads neither torch nor transformers.
"""
