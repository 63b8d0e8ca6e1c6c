"""A Ray cluster of several nodes on this machine, as little of it as there can be."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import psutil

from solver.journal.history import RunHistory
from solver.journal.reader import read_journal
from tests.support.processes import below, command_of

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
    "OMP_NUM_THREADS": "1",
}
NODE: dict[str, Any] = {
    "num_cpus": 2,
    "include_dashboard": False,
    "object_store_memory": 80 << 20,
    "node_ip_address": "127.0.0.1",
}


@contextlib.contextmanager
def two_nodes() -> Iterator[Any]:
    """The `ray.cluster_utils.Cluster`; every process of it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        os.environ.update({**SETTINGS, "RAY_TMPDIR": temporary})
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            cluster.add_node(**NODE)
            yield cluster
        finally:
            cluster.shutdown()


def actors(cluster: Any) -> list[psutil.Process]:
    """The processes of our actors on its nodes."""
    nodes = [
        psutil.Process(process.pid)
        for node in cluster.list_all_nodes()
        for _, process in node.live_processes()
    ]
    return workers_of(below(nodes))


def workers_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are actors of ours."""
    return [one for one in processes if command_of(one).startswith("ray::Worker")]


def sampled_ids(folder: Any) -> dict[tuple[str, int], tuple[int, ...]]:
    """Every id of every trajectory of a run folder, after what began again."""
    history = RunHistory(keep_ids=True)
    for event in read_journal(folder / "journal.jsonl").events:
        history.apply(event)
    return {
        (problem.id, index): tuple(one.trajectory.token_ids)
        for problem in history.problems.values()
        for index, one in problem.trajectories.items()
    }
