"""Runs of the command on a real cluster of two nodes: the embedded model, real kernels, real losses.

One cluster for all of them. Votes do not stop early, so that every trajectory can be compared to its end.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from solver.journal.summary import Summary
from solver.stop.rollouts.examples import read_examples
from tests.support.cluster import NODE, actors, sampled_ids, two_nodes, workers_of
from tests.support.command import (
    assert_gone,
    command,
    run,
    solved,
    some_problems,
    started,
    wait_for_solved,
)
from tests.support.processes import below, name_of

pytestmark = [
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.timeout(280),
    pytest.mark.cluster,
]
NUM_PROBLEMS = 3
SMALL = (
    "--launch", "4", "--keep", "2", "--set", "vote.stop=off", "--set", "model.threads=1", "--force",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as nodes:
        yield nodes


def test_the_cluster_listens_to_this_machine_only(cluster: Any) -> None:
    assert cluster.address.startswith("127.0.0.1:")
    everybody = [one for node in cluster.list_all_nodes() for one in node.live_processes()]
    heard = {
        one.laddr.ip.removeprefix("::ffff:")
        for _, process in everybody
        for one in psutil.Process(process.pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert heard <= {"127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return some_problems(tmp_path_factory.mktemp("problems"), NUM_PROBLEMS)


@pytest.fixture(scope="module")
def alone(problems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = run(problems, *SMALL, "--run-dir", folder, "--output", folder.parent / "alone.csv")
    assert done.returncode == 0, done.stderr
    return folder


def assert_same(folder: Path, alone: Path) -> None:
    """The same answers, votes and tokens."""
    ours, theirs = ({one.problem_id: one for one in solved(path)} for path in (folder, alone))
    assert ours.keys() == theirs.keys()
    for name, answer in theirs.items():
        assert (ours[name].answer, ours[name].votes) == (answer.answer, answer.votes)
        assert ours[name].sampled_tokens == answer.sampled_tokens
        assert not ours[name].degradations
    assert sampled_ids(folder) == sampled_ids(alone)


def summary(folder: Path) -> Summary:
    return Summary.model_validate_json((folder / "summary.json").read_bytes())


def on(cluster: Any, folder: Path, num: int, *more: object) -> tuple[object, ...]:
    """The arguments of a run on `num` actors of the cluster."""
    return (
        *SMALL, "--run-dir", folder, "--output", folder.parent / f"{folder.name}.csv",
        "--ray", cluster.address, "--actors", num, *more,
    )  # fmt: skip


@contextlib.contextmanager
def under_way(problems: Path, arguments: tuple[object, ...], folder: Path) -> Iterator[Any]:
    """The process of a run into `folder` that has solved its first problem."""
    with started(problems, *arguments) as process:
        wait_for_solved(folder, 1, process)
        yield process


def wait_until(condition: Callable[[], object], what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within two minutes: {what}")


@pytest.mark.parametrize("num", [1, 2, 4])
def test_actors_answer_as_one_process_does(
    num: int, cluster: Any, problems: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    done = run(problems, *on(cluster, folder, num))
    assert done.returncode == 0, done.stderr
    assert_same(folder, alone)
    assert summary(folder).isolation == summary(alone).isolation
    wait_until(lambda: not actors(cluster), "the actors end with the run")


def test_a_node_is_lost_in_the_middle(
    cluster: Any, problems: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    lost = cluster.add_node(**NODE)
    try:
        with under_way(problems, on(cluster, folder, 3), folder) as process:
            cluster.remove_node(lost, allow_graceful=False)
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
    finally:
        if lost in cluster.worker_nodes:
            cluster.remove_node(lost, allow_graceful=False)
    assert_same(folder, alone)


def test_an_actor_is_killed_with_its_kernels(
    cluster: Any, problems: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with under_way(problems, on(cluster, folder, 2), folder) as process:
        victim = actors(cluster)[0]
        kernels = below([victim])
        assert kernels, "its sandbox runs below it"
        victim.kill()
        assert_gone(kernels, timeout=30)
        out, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert "was lost, what it worked on begins again" in out
    assert_same(folder, alone)


def test_the_driver_is_killed_and_the_run_resumed(
    cluster: Any, problems: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with under_way(problems, on(cluster, folder, 2), folder) as process:
        left = actors(cluster)
        left += below(left)
        process.kill()
    assert_gone(left, timeout=60)
    assert len(solved(folder)) < NUM_PROBLEMS
    done = run("--resume", folder, "--ray", cluster.address, "--actors", 2)
    assert done.returncode == 0, done.stderr
    assert_same(folder, alone)


def test_a_stopped_run_goes_on_later(
    cluster: Any, problems: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with under_way(problems, on(cluster, folder, 2), folder) as process:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=100)
    assert process.returncode == 130 and "go on with --resume" in out
    done = run("--resume", folder)  # in one process: it is a run like any other
    assert done.returncode == 0, done.stderr
    assert_same(folder, alone)


def test_a_node_with_another_version_is_refused_by_name(
    cluster: Any, problems: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "stop_solver-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: stop-solver\nVersion: 9.9\n")
    # Only this node has room for actors of three cores.
    node = cluster.add_node(**{**NODE, "num_cpus": 3}, env_vars={"PYTHONPATH": str(other.parent)})
    try:
        folder = tmp_path / "run"
        # Actors look where the driver runs first, and a clone holds metadata of its own installation.
        done = subprocess.run(
            command(problems, *on(cluster, folder, 1, "--set", "model.threads=3")),
            cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
    finally:
        cluster.remove_node(node, allow_graceful=False)
    assert done.returncode == 2
    assert "its version is 9.9, the driver's is " in done.stderr
    assert done.stderr.count("\n") == 1 and not folder.exists()


def test_more_actors_than_fit_are_refused(cluster: Any, problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run(problems, *on(cluster, folder, 64))
    assert done.returncode == 2
    assert "see --actors, --gpus-per-actor and model.threads" in done.stderr
    assert not folder.exists()


def test_collecting_on_actors_gives_the_same_examples(cluster: Any, tmp_path: Path) -> None:
    files = []
    for name, more in (("here", []), ("there", ["--ray", cluster.address, "--actors", "2"])):
        out = tmp_path / f"{name}.jsonl"
        command = [
            sys.executable, "-m", "solver.stop", "collect", "--split", "stop", "--num", "4",
            "--launch", "4", "--least-right", "0", "--most-right", "1", "--out", str(out), *more,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        files.append(read_examples(out))
    here, there = files
    for one, other in zip(here, there, strict=True):
        # What else is in the batch changes how sums round, and nothing else.
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        alike = {"logprobs": None}
        assert one.model_copy(update=alike) == other.model_copy(update=alike)


def test_a_cluster_of_its_own_ends_with_the_command(
    problems: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = (*SMALL, "--run-dir", folder, "--output", tmp_path / "a.csv", "--ray", "--actors", 1)
    with under_way(problems, options, folder) as process:
        everything = psutil.Process(process.pid).children(recursive=True)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert_gone(everything, timeout=30)
    assert_same(folder, alone)


def test_nothing_of_a_cluster_of_its_own_survives_a_killed_command(
    problems: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = (*SMALL, "--run-dir", folder, "--output", tmp_path / "a.csv", "--ray", "--actors", 1)
    with under_way(problems, options, folder) as process:
        everything = psutil.Process(process.pid).children(recursive=True)
        assert below(workers_of(everything)), "kernels run"
        # Ray's own agents look for its dead server for a minute before they end.
        ours = [one for one in everything if not name_of(one).endswith("Agent")]
        process.kill()
    assert_gone(ours, timeout=30)


def test_no_cluster_where_one_is_said_to_be(problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run(problems, *SMALL, "--run-dir", folder, "--output", tmp_path / "a.csv",
               "--ray", "127.0.0.1:1", "--actors", 1)  # fmt: skip
    assert done.returncode == 2
    assert "no Ray cluster at 127.0.0.1:1" in done.stderr and not folder.exists()
