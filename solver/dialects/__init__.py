"""Conversation formats at the level of token ids: where a tool call ends, how its output comes back."""
