"""The decisions of a run as pure functions: no IO, no clock, no randomness but by explicit seed."""
