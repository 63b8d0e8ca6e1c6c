"""Fixtures of tiny models, on disk once a session."""

from tests.support.tiny_models import architecture, llama_folder, qwen2_folder

__all__ = ["architecture", "llama_folder", "qwen2_folder"]
