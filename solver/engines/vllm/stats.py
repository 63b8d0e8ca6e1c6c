"""Counters of an engine on vLLM servers."""

from __future__ import annotations

from dataclasses import dataclass

from solver.types import Chunk


@dataclass(slots=True)
class VllmStats:
    """Counters since the engine was opened, in tokens unless noted.

    `sampled`   ids sampled and returned
    `reused`    prompt ids that the server had cached, of requests that were read to their end
    `encoded`   prompt ids that the server had to encode, of requests that were read to their end
    `scored`, `scored_cached`   prefixes and their [STOP] ids that were scored, and the cached part
    `retries`   attempts that failed and were repeated
    `losses`    servers that were lost
    `preemptions`  times a request lost its slot because the KV cache was full
    """

    sampled: int = 0
    reused: int = 0
    encoded: int = 0
    scored: int = 0
    scored_cached: int = 0
    retries: int = 0
    losses: int = 0
    preemptions: int = 0

    def count(self, chunk: Chunk) -> None:
        """Add a chunk's ids."""
        self.sampled += len(chunk.token_ids)
        self.reused += chunk.reused_tokens
        self.encoded += chunk.encoded_tokens
