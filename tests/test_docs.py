"""What the documents promise exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import prompts
import sandbox
import solver
import submissions
from solver.config import SolverConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_setting_is_documented_and_nothing_else() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/settings.md").read_text("utf-8"), re.M)
    assert sorted(rows) == sorted(keys(SolverConfig))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("package", [prompts, sandbox, solver, submissions])
def test_each_package_is_ours(package: object) -> None:
    """PyPI has another package named `prompts`; the one that is imported must be this one."""
    assert Path(str(package.__file__)).is_relative_to(ROOT)  # type: ignore[attr-defined]


def test_every_file_of_the_architecture_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    packages = text[text.index("## Packages") : text.index("## Rules")]
    files = re.findall(r"\b([a-z_]+\.py)\b", packages)
    known = {path.name for path in ROOT.glob("*/**/*.py")}
    assert set(files) <= known
