"""Control groups: where they can be had, what is asked of them, and counting where they cannot."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import groups
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.usage import trees
from sandbox.watchdog import Watched, too_much_memory
from tests.sandbox.conftest import entries, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    groups.parent.cache_clear()
    yield
    groups.parent.cache_clear()


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hierarchy made of usual files, of which the test is in the group `user`."""
    folder = tmp_path / "cgroup"
    for each in (folder, folder / "user"):
        each.mkdir()
        (each / "cgroup.controllers").write_text("cpu memory pids\n")
        (each / "cgroup.subtree_control").touch()
    (tmp_path / "own").write_text("4:memory:/elsewhere\n0::/user\n")
    monkeypatch.setattr(groups, "MOUNTS", (tmp_path / "none", folder))
    monkeypatch.setattr(groups, "OWN", tmp_path / "own")
    return folder


def test_root_makes_them_in_the_machines_own_hierarchy(
    monkeypatch: pytest.MonkeyPatch, mount: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert groups.parent() == mount
    assert (mount / "cgroup.subtree_control").read_text() == "+memory +pids"


@pytest.mark.parametrize("user", [0, 1000])
def test_who_was_handed_a_group_moves_aside_and_divides_it(
    monkeypatch: pytest.MonkeyPatch, mount: Path, user: int
) -> None:
    (mount / "cgroup.type").write_text("domain\n")  # as in a container
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert groups.parent() == mount / "user"
    (aside,) = (mount / "user").glob("solver-*")
    assert (aside / "cgroup.procs").read_text() == "0"
    assert (mount / "user" / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_who_is_not_alone_in_the_group_moves_back(
    monkeypatch: pytest.MonkeyPatch, mount: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def busy(_: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(groups, "divide", busy)
    (mount / "cgroup.type").write_text("domain\n")
    with caplog.at_level(logging.INFO):
        assert groups.parent() is None
    assert (mount / "user" / "cgroup.procs").read_text() == "0"
    assert "no control groups: [Errno 16]" in caplog.text


@pytest.mark.parametrize("missing", ["memory", "pids"])
def test_both_controllers_are_needed(
    mount: Path, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    (mount / "cgroup.type").write_text("domain\n")
    words = " ".join({"memory", "pids"} - {missing})
    (mount / "user" / "cgroup.controllers").write_text(words)
    with caplog.at_level(logging.INFO):
        assert groups.parent() is None
    assert f"no controller for {missing}" in caplog.text


def test_version_1_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(groups, "MOUNTS", (tmp_path,))
    assert groups.parent() is None


def test_a_kernel_is_bounded_and_what_linux_counts_is_read(tmp_path: Path) -> None:
    group = tmp_path / "kernel"
    groups.make(group, groups.bounds(1 << 30, 64))
    said = {name: int((group / name).read_text()) for name in entries(group)}
    assert said == {
        "memory.high": 1 << 30,
        "memory.max": 5 << 28,
        "memory.oom.group": 1,
        "pids.max": 64,
    }
    (group / "memory.current").write_text("5000\n")
    (group / "memory.stat").write_text("anon 3000\ninactive_file 700\nactive_file 300\n")
    assert groups.held(group) == 4000


def test_the_watchdog_asks_the_group_and_counts_where_there_is_none(tmp_path: Path) -> None:
    ours = trees([os.getpid()])[os.getpid()][0].resident
    limits = Limits(resident_bytes=max(1 << 28, 16 * ours), floor_bytes=0)
    kernel = Watched(os.getpid(), tmp_path, readable=False, group=tmp_path)
    assert not too_much_memory([kernel], limits)
    (tmp_path / "memory.stat").write_text("inactive_file 1\nactive_file 1\n")
    (tmp_path / "memory.current").write_text(str(limits.resident_bytes + 3))
    assert list(too_much_memory([kernel], limits)) == [kernel]


async def test_kernels_run_in_groups_of_their_own_which_go_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a real hierarchy, also where its controllers are version 1's."""
    mount = next((each for each in groups.MOUNTS if (each / "cgroup.procs").exists()), None)
    if mount is None or not os.access(mount / "cgroup.procs", os.W_OK):
        pytest.skip("version 2 is not mounted, or we may not make groups")
    if not {"memory", "pids"} <= set((mount / "cgroup.controllers").read_text().split()):
        monkeypatch.setattr(groups, "CONTROLLERS", ())
        monkeypatch.setattr(groups, "bounds", lambda *_: {})
    before = set(entries(mount))
    limits = Limits(spares=0)
    async with KernelPool(limits) as pool:
        ours = pool._launcher.workspace.group  # type: ignore[union-attr]
        assert ours is not None
        async with pool.lease() as sandbox:
            daemon = "import subprocess as s; s.Popen(['sleep', '300'], start_new_session=True).pid"
            pid = int((await sandbox.execute(daemon, 20)).stdout)
            (group,) = ours.glob("*/")
            assert str(pid) in (group / "cgroup.procs").read_text().split()
        assert await until(lambda: not running(pid) and not list(ours.glob("*/")), 20)
    assert not ours.exists()
    assert {name for name in entries(mount) if name.startswith("sandbox-")} <= before
