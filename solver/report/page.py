"""The HTML file: data, style and script in one, and a policy under which nothing else can run.

Everything that came from a problems file or a model is JSON inside a data block, with every character
escaped that means something to HTML; the script puts it on the page as text. The policy allows this
one script and this one style, by their hashes, and no loading of anything (live: of this page's data).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from solver.files.whole import write_whole
from solver.report.compare import comparison
from solver.report.details import Details
from solver.report.overview import overview, result
from solver.report.source import RunSource, shared_problems

MARKER = "<!-- stop-solver report -->"
_SNIPPET = 160  # characters of a statement in the table
_SCRIPTS = ("dom", "formula", "charts", "overview", "table", "lanes", "trace", "problem", "main")
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_ASSETS = Path(__file__).parent / "assets"


def data(
    sources: Sequence[RunSource], details: Details | None = None, *, live: bool = False
) -> dict[str, Any]:
    """Everything that the page shows, of one run or of two side by side."""
    problems = shared_problems(sources)
    pages = (details or Details()).pack(sources, problems)
    rows = []
    blocks: list[str] = []
    for name, problem in problems.items():
        results = [result(source, name) for source in sources]
        for number, row in enumerate(results):
            if row is not None:
                row["b"] = len(blocks)
                blocks.append(pages[number, name])
        statement = " ".join(problem.statement[: 4 * _SNIPPET].split())
        known = None if problem.answer is None else str(problem.answer)
        rows.append({"id": name, "s": statement[:_SNIPPET], "known": known, "r": results})
    return {
        "live": live,
        "runs": [overview(source, live=live) for source in sources],
        "compare": comparison(*sources) if len(sources) == 2 else None,
        "problems": rows,
        "blocks": blocks,
    }


def html(shown: dict[str, Any]) -> str:
    """The file, of what `data` gave."""
    style, script = _asset("style.css"), _script()
    fetched = " connect-src 'self';" if shown["live"] else ""
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}';"
        f" img-src data:;{fetched} base-uri 'none'; form-action 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    title = " against ".join(run["name"] for run in shown["runs"])
    rendered: str = _template().render(
        marker=Markup(MARKER),
        policy=policy,
        title=title,
        style=Markup(style),
        script=Markup(script),
        data=Markup(embeddable(shown)),
    )
    return rendered


def embeddable(value: object) -> str:
    """JSON that ends no script element, whatever is in it, and that UTF-8 has room for."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPES).encode("utf-8", "replace").decode()


def write_report(sources: Sequence[RunSource], output: Path) -> Path:
    """Write the report, whole or not at all; `InputError` if it cannot be written."""
    write_whole(output, html(data(sources)))
    return output


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    body = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("solver.report", "assets"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html.j2")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
