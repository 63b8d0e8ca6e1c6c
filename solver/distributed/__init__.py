"""The same work on many engines: problems are handed to actors of a Ray cluster, one engine each.

The driver alone decides about time, writes the journal and keeps answers. An actor shares nothing with
others, so a lost one costs the time of its problem and nothing else.
"""
