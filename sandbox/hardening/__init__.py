"""What holds a kernel's process on Linux: its own uid, Landlock, seccomp, resource limits.

Runs inside the process that it confines, before any model-written code does, and needs only the
standard library. In-process filtering of code is no boundary and is not used.
"""
