"""How problems are solved: launch, check, resume and vote, over the ports of engine, kernels and scorer.

It refuses to know a particular engine, model, kernel or file.
"""
