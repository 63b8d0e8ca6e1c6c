"""The vLLM engine: servers that are started and supervised here, or that already run elsewhere."""
