"""A run as a table: the same columns in pandas and polars, whichever there is."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from solver.errors import ConfigError, InputError
from solver.journal import frames, to_frame
from tests.replay.runs import Judge, full, recorded
from tests.support.rig import Rig, every, problem, says

LIBRARIES = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"no {name}"))
    for name in frames.LIBRARIES
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tales = every(["```python\nprint(3)\n```\n" + says(3, 30), says(3, 30), says(4, 9), "no" * 9])
    judge = Judge("stop", {f"p#{i}": i / 2 for i in range(4)})
    last = Judge("stop", {f"p#{i}": i - 1.5 for i in range(4)})
    rig = Rig(says=tales, settings=full(), scorer=judge, last_check=last)
    folder = tmp_path_factory.mktemp("frames") / "run"
    recorded(folder, rig, [problem(answer=3)], (judge,))
    return folder


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_row_a_trajectory(run: Path, library: str) -> None:
    table = to_frame(run, library=library)  # type: ignore[arg-type]
    assert type(table).__module__.startswith(library)
    assert table.shape[0] == 4
    assert list(table["index"]) == [0, 1, 2, 3]
    assert list(table["right"]) == [True, True, False, False]
    assert list(table["tool_calls"]) == [1, 0, 0, 0]
    assert list(table["kept"]) == [False, False, True, True]
    assert list(table["stop_reason"])[3] == "error"
    assert list(table["stop@10"]) == [0.0, 0.5, 1.0, 1.5]
    assert [None if v != v else v for v in table["verified"]][:3] == [-1.5, -0.5, 0.5]
    assert all(seconds > 0 for seconds in table["sampling_s"])


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_row_a_problem(run: Path, library: str) -> None:
    table = to_frame(run, "problems", library)  # type: ignore[arg-type]
    assert table.shape[0] == 1
    assert list(table["problem_id"]) == ["p"]
    assert list(table["known_answer"]) == [3]
    assert list(table["right"]) == [False]  # the judge kept the wrong ones
    assert list(table["trajectories"]) == [4]


def test_without_a_library(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install polars"):
        to_frame(run)
    with pytest.raises(InputError, match="pip install pandas"):
        to_frame(run, library="pandas")


def test_mistakes(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        to_frame(tmp_path)
    with pytest.raises(ConfigError, match="kind is"):
        to_frame(run, "events")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="library is"):
        to_frame(run, library="excel")  # type: ignore[arg-type]
