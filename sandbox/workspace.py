"""What kernels are given before they start: a folder, a uid, an environment, the orders that bind them."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox import groups
from sandbox.client import SENT
from sandbox.folders import remove_folder
from sandbox.hardening.cage import FOLDERS, Cage
from sandbox.isolation import Isolation, isolation
from sandbox.limits import Limits
from sandbox.processes import MARK, SafetyNet, kill_marked
from sandbox.uids import Uids, end_all

log = logging.getLogger(__name__)

BOOT = Path(__file__).with_name("boot.py")
SOCKET_PATH_BYTES = 100  # sun_path holds 108 on Linux and 104 on macOS
PLACE_CHARACTERS = 16  # of a folder's name, which nobody can guess
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)


@dataclass(frozen=True)
class Place:
    """Where one kernel lives. `mark` is in the environment of all that it starts."""

    number: int
    folder: Path
    mark: str
    uid: int | None
    group: Path | None  # the control group, where there are any

    @property
    def environment(self) -> dict[str, str]:
        """All that the kernel sees of ours; no secret can be in it."""
        return {
            **common_environment(self.mark),
            "HOME": str(self.folder / "work"),
            **dict.fromkeys(("TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR"), str(self.folder / "tmp")),
        }


class Workspace:
    """The folder, the uids and the control group that one launcher's kernels share."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.isolation: Isolation = isolation()
        self.folder = _short_folder()
        self.prefix = f"{uuid.uuid4().hex}."
        self._uids = Uids() if "uid" in self.isolation.layers else None
        if self._uids is not None:
            self.folder.chmod(0o711)  # so that a kernel reaches what is its own
        self.group = _group()
        self._count = 0
        self.net = SafetyNet(self.prefix, self.folder, self.group)
        self.net.arm()

    @property
    def locks(self) -> list[int]:
        """Descriptors of what must stay locked while a kernel of ours runs."""
        return [] if self._uids is None else [self._uids.descriptor]

    def open(self) -> Place:
        """A place for one kernel. Raises OSError."""
        uid = None if self._uids is None else self._uids.take()
        self._count += 1
        name = uuid.uuid4().hex[:PLACE_CHARACTERS]
        mark = f"{self.prefix}{self._count}."
        group = self.group / name if self.group is not None else None
        place = Place(self._count, self.folder / name, mark, uid, group)
        try:
            if group is not None:
                groups.make(group, groups.bounds(self.limits.resident_bytes, self.limits.processes))
            for folder in (place.folder, *(place.folder / name for name in FOLDERS)):
                folder.mkdir(mode=0o700)
                if uid is not None:
                    os.chown(folder, uid, uid)
        except BaseException:
            self.free(place)
            raise
        return place

    def orders(self, place: Place, parent: int) -> dict[str, Any]:
        """What a kernel that `parent` starts is told, as JSON can hold it."""
        limits, held = self.limits, self.isolation
        cage = Cage(
            folder=str(place.folder),
            parent=parent,
            layers=held.layers,
            uid=place.uid,
            group=str(place.group or ""),
            read_anywhere=held.read_anywhere,
            private_shm=held.private_shm,
            memory_bytes=limits.memory_bytes,
            file_bytes=limits.file_bytes,
            open_files=limits.open_files,
            processes=limits.processes,
            shm_bytes=limits.shm_bytes,
        )
        return {
            "cage": asdict(cage),
            "accepted_bytes": limits.accepted_bytes,
            "sent_bytes": SENT * limits.accepted_bytes,
        }

    def free(self, place: Place) -> None:
        """Forget a place where nothing runs any more. May take a while: not for the event loop."""
        if place.group is not None:
            groups.remove(place.group)
        remove_folder(place.folder)
        if self._uids is not None and place.uid is not None:
            if not self.isolation.private_shm:
                _clear_shm(place.uid)
            self._uids.give_back(place.uid)

    def sweep(self, place: Place) -> None:
        """Kill all that this place's kernel started. May take a while: not for the event loop."""
        if place.uid is not None:
            end_all(place.uid)
        elif daemons := kill_marked(place.mark):
            log.info("killed %d processes that a kernel left behind", daemons)

    def close(self) -> None:
        """Remove everything; nothing runs any more."""
        if self.group is not None:
            groups.remove(self.group)
        remove_folder(self.folder)
        if self._uids is not None:
            self._uids.close()
        self.net.disarm()


def common_environment(mark: str) -> dict[str, str]:
    """What is the same for every kernel."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "LANG": "C.UTF-8",
        "TZ": os.environ.get("TZ", "UTC"),
        "MPLBACKEND": "Agg",
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
        **dict.fromkeys(ONE_THREAD, "1"),
        MARK: mark,
    }


def _group() -> Path | None:
    """One in which a kernel's can be made."""
    if (parent := groups.parent()) is None:
        return None
    folder = parent / f"sandbox-{uuid.uuid4().hex}"
    try:
        groups.make(folder, {})
        groups.divide(folder)
    except OSError as error:
        log.warning("kernels have no control groups: %s", error)
        return None
    return folder


def _clear_shm(uid: int) -> None:
    """Remove the files that a uid left in the /dev/shm that all share."""
    for path in Path("/dev/shm").iterdir():
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == uid:
                path.unlink()


def _short_folder() -> Path:
    """An own folder (0700), in /tmp where the usual place is too deep for a socket's path."""
    usual = tempfile.gettempdir()
    places = [usual, "/tmp"] if len(usual) > SOCKET_PATH_BYTES // 2 else [usual]
    for place in reversed(places):
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="kernels-", dir=place))
    raise OSError(f"cannot make a folder in {' or '.join(places)}")
