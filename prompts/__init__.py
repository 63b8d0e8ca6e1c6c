"""Prompt templates: one Markdown file each, rendered with jinja2."""

from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template


def names() -> list[str]:
    """Every template that can be rendered, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".md") for file in files if file.name.endswith(".md"))


@cache
def _template(name: str) -> Template:
    if name not in names():
        raise KeyError(f"no prompt template {name!r}; there are: {', '.join(names())}")
    source = (resources.files(__name__) / f"{name}.md").read_text("utf-8")
    return Environment(undefined=StrictUndefined, autoescape=False).from_string(source)


def render(name: str, **values: str) -> str:
    """Fill template `name`; KeyError for an unknown name, jinja2's UndefinedError for a missing value.

    Values are inserted as they are: a statement that looks like a template is never evaluated.
    """
    return _template(name).render(values).strip()
