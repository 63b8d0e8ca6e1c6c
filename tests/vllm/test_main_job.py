"""The main job on real vLLM: `--engine vllm`, STOP 24 -> 8 through the plugin, a server that is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from solver.journal.events import Checked, EngineIncident, Sampled
from solver.journal.reader import read_journal
from solver.types import PruneReason
from tests.support.command import (
    EXAMPLES,
    assert_gone,
    children,
    rows,
    run,
    solved,
    some_problems,
    started,
    wait_for_solved,
)
from tests.support.processes import command_of

pytestmark = pytest.mark.timeout(900)


def summary(folder: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = run(
        EXAMPLES, "--output", folder / "a.csv", "--run-dir", folder / "run", "--engine", "vllm",
        timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(rows(folder / "a.csv")) == 30
    return folder / "run"


def test_both_engines_are_equally_good(finished: Path, tmp_path: Path) -> None:
    done = run(EXAMPLES, "--output", tmp_path / "a.csv", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    served, in_process = summary(finished), summary(tmp_path / "run")
    assert served["num_graded"] == in_process["num_graded"] == 30
    (low, high), (other_low, other_high) = (s["accuracy_interval"] for s in (served, in_process))
    assert low <= other_high and other_low <= high, (served, in_process)
    assert not served["degraded"]


def test_every_check_is_scored_by_the_plugin_and_every_prefix_is_a_cache_hit(
    finished: Path,
) -> None:
    events = read_journal(finished / "journal.jsonl").events
    checks = [e for e in events if isinstance(e, Checked)]
    assert len(checks) == 30
    pruned = [e for e in checks if e.dropped]
    assert pruned and all(e.method == "stop" for e in checks)
    assert all(e.reason is not PruneReason.FALLBACK_RANDOM for e in checks)
    resumed = [
        e for e in events if isinstance(e, Sampled) and e.reused_tokens + e.encoded_tokens > 200
    ]
    block = 32
    assert resumed and all(e.encoded_tokens < 200 + 2 * block for e in resumed)


def test_killing_the_server_three_times_costs_no_answer(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    problems = some_problems(tmp_path, 8)
    given = (problems, "--output", tmp_path / "a.csv", "--run-dir", folder, "--engine", "vllm")
    with started(*given) as process:
        everybody = []
        for solved_before in (1, 3, 5):
            wait_for_solved(folder, solved_before, process)
            everybody += children(process)
            for victim in children(process):
                if "vllm.entrypoints.openai.api_server" in command_of(victim):
                    victim.kill()
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert_gone(everybody)
    answers = solved(folder)
    assert len(answers) == len(rows(tmp_path / "a.csv")) == 8
    assert all(answer.num_votes for answer in answers), "every answer is voted, none is a fallback"
    lost = [reason for answer in answers for reason in answer.degraded if "lost" in reason]
    assert lost, output
    events = read_journal(folder / "journal.jsonl").events
    incidents = [e.what for e in events if isinstance(e, EngineIncident)]
    assert sum("was lost" in what for what in incidents) == 3, incidents
