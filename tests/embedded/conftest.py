"""One tokenizer for all tests of the embedded model."""

from typing import Any

import pytest

from solver.embedded.tokens import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_tokenizer(seed=0)
