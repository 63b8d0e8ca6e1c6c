"""What-if: any policy, replayed on trajectories that were recorded in full, without a model.

record (a journal, read into records) -> paths and scores -> a policy's outcome (votes are exact, time
is simulated) -> sweeps, counterfactuals, tables. Everything here is a function of journals.
"""
