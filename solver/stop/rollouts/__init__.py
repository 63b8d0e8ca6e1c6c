"""Rollouts: sampled to their ends, labelled, cut at the mark and kept in files.

Problems that are held out raise an error. Nothing is trained or compared here.
"""
