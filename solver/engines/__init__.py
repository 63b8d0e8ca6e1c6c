"""Engines: what samples tokens behind the `Engine` port.

`transformers.py` runs a model in this process, `scripted.py` replays a script for tests. Importing
this package imports neither torch nor transformers; importing `solver.engines.transformers` does.
"""
