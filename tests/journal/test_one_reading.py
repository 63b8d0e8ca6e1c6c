"""Only the history tells state from events: what else asks an event for its kind is listed here."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
OF_STATE = {"Sampled", "Executed", "Forced", "Ended", "Checked", "Scored", "Solved"}
ASKED = {
    # results come in the order of completion
    "solver/api.py": {"Solved"},
    # the last of what an actor sends
    "solver/distributed/session.py": {"Solved"},
    # the line that a solved problem gets
    "solver/runs/progress.py": {"Solved"},
    # what an earlier worker answered
    "submissions/worker.py": {"Solved"},
    # faults strike where a stage begins
    "submissions/faults.py": {"Checked", "Ended", "Solved"},
}


def asked(path: Path) -> set[str]:
    """The kinds of events that a module tests for with `isinstance`."""
    tests = (
        node.args[1]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "isinstance"
    )
    names = {n.id for test in tests for n in ast.walk(test) if isinstance(n, ast.Name)}
    return names & OF_STATE


def test_no_other_module_interprets_events() -> None:
    modules = [*(ROOT / "solver").rglob("*.py"), *(ROOT / "submissions").rglob("*.py")]
    places = {path.relative_to(ROOT).as_posix(): asked(path) for path in modules}
    elsewhere = {
        place: kinds
        for place, kinds in places.items()
        if kinds and not place.startswith("solver/journal/")
    }
    assert elsewhere == ASKED
    assert places["solver/journal/history.py"] == OF_STATE
