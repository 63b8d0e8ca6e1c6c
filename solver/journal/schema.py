"""The JSON Schema of a journal's lines, which docs/journal.schema.json holds."""

from __future__ import annotations

import json
from typing import Any

from solver.journal.events import EVENTS, SCHEMA_MINOR, SCHEMA_VERSION


def journal_schema() -> dict[str, Any]:
    """One line of `journal.jsonl`. The config is an open object: docs/settings.md is its schema."""
    schema = EVENTS.json_schema(mode="serialization")
    kept = _reachable(schema["$defs"], schema["oneOf"])
    definitions = {name: schema["$defs"][name] for name in sorted(kept)}
    definitions["SolverConfig"] = {
        "type": "object",
        "description": "The resolved settings of the run: docs/settings.md",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A line of journal.jsonl, schema {SCHEMA_VERSION}.{SCHEMA_MINOR}",
        "description": (
            "Each line is one event; the first is run_started. `t` and `started` are seconds since"
            " the process began (run_resumed begins anew), log-probabilities are in nats."
        ),
        **{name: value for name, value in schema.items() if name != "$defs"},
        "$defs": definitions,
    }


def schema_text() -> str:
    """The file's text."""
    return json.dumps(journal_schema(), indent=2, ensure_ascii=False) + "\n"


def _reachable(definitions: dict[str, Any], start: object) -> set[str]:
    """Names that `start` refers to, not looking into the config."""
    found: set[str] = set()
    todo = [start]
    while todo:
        for name in set(_names(todo.pop())) - found:
            found.add(name)
            if name != "SolverConfig":
                todo.append(definitions[name])
    return found


def _names(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"].rpartition("/")[2]] if isinstance(node.get("$ref"), str) else []
        return own + [name for value in node.values() for name in _names(value)]
    if isinstance(node, list):
        return [name for value in node for name in _names(value)]
    return []
