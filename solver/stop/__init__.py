"""STOP: a learned adapter that judges a prefix from the base model's own states (kind IV).

A few reserved token ids are [STOP]. Appended to a cached prefix, and to nothing else, they wake a
small adapter whose head says how likely the trajectory ends right. torch and transformers are
imported by the modules that compute (`gate`, `score`, `adapter`, `prefixes`, `train`, `convert`).
"""
