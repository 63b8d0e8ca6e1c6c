"""What an engine on vLLM servers has done so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from solver.types import Chunk


@dataclass(slots=True)
class VllmStats:
    """Counters since the engine was opened, in tokens unless noted.

    `sampled`   ids sampled and handed on
    `reused`    ids given in requests that the server had cached, as far as it was asked to the end:
                a request that is closed early never says
    `encoded`   ids given in requests that it had to encode; same reserve
    `scored`, `scored_cached`   prefixes and their [STOP] ids that were scored, and the cached part
    `retries`   attempts that failed and were repeated
    `losses`    servers that were lost
    `gave_way`  requests that had to wait for room once they had begun
    """

    sampled: int = 0
    reused: int = 0
    encoded: int = 0
    scored: int = 0
    scored_cached: int = 0
    retries: int = 0
    losses: int = 0
    gave_way: int = 0

    def count(self, chunk: Chunk) -> None:
        """Add what a chunk brings."""
        self.sampled += len(chunk.token_ids)
        self.reused += chunk.reused_tokens
        self.encoded += chunk.encoded_tokens
