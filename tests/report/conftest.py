from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.builders import three_problems


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a finished run of three problems."""
    return three_problems(tmp_path / "run").write()
