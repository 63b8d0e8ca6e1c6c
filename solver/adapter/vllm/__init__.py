"""The same gate on a stock vLLM server: the plugin, the models it wraps, and the server's flags and scores.

Models and adapters that were not tested with it raise `ModelError`.
"""
