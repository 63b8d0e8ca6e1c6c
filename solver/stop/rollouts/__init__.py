"""Rollouts: sampled to their ends, labelled, cut at the mark and kept in files.

It refuses problems that are held out, and to train or to compare anything.
"""
