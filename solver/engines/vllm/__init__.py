"""The production engine: vLLM servers, started and supervised here or already running elsewhere."""
