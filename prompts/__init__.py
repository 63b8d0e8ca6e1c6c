"""Prompt templates: one Markdown file each, rendered with jinja2.

What stands behind a line `[assistant]` begins the model's own turn, for models that would otherwise
not begin with what they are asked for; a blank line follows it.
"""

from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

_ASSISTANT = "\n[assistant]\n"


def names() -> list[str]:
    """Every template that can be rendered, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".md") for file in files if file.name.endswith(".md"))


@cache
def _parts(name: str) -> tuple[Template, str]:
    if name not in names():
        raise KeyError(f"no prompt template {name!r}; there are: {', '.join(names())}")
    text = (resources.files(__name__) / f"{name}.md").read_text("utf-8")
    message, _, beginning = text.partition(_ASSISTANT)
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(message)
    return template, f"{beginning.strip()}\n\n" if beginning.strip() else ""


def render(name: str, **values: str) -> str:
    """Fill template `name`; KeyError for an unknown name, jinja2's UndefinedError for a missing value.

    Values are inserted as they are: a statement that looks like a template is never evaluated.
    """
    message, _ = _parts(name)
    return message.render(values).strip()


def beginning(name: str) -> str:
    """What template `name` begins the model's turn with; empty for most. KeyError for an unknown name."""
    _, beginning = _parts(name)
    return beginning
