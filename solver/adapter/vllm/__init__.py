"""The same gate on a stock vLLM server: the plugin, the models it wraps, and what server and engine agree on.

It refuses models and adapters that it has not been proved on.
"""
