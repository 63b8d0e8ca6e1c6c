"""How problems are solved: launch, check, resume and vote, over the ports of engine, kernels and scorer.

It imports no particular engine, model or kernel, and reads and writes no files.
"""
