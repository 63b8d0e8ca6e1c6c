"""What runs inside a kernel's process: a plain IPython kernel, started fast and bounded from within.

Either in a fork of the zygote or in a process of its own, by `boot.py`. Never imported by the solver.
Nothing here is trusted by the solver; the bounds that matter are checked again outside.
"""
