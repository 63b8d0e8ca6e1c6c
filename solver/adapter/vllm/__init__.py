"""The same gate on a stock vLLM server: the plugin, the models it wraps, and the server's flags and scores.

It refuses models and adapters that it has not been proved on.
"""
