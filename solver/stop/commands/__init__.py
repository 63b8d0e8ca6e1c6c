"""The commands of `python -m solver.stop`, one a module; torch is imported when one runs."""
