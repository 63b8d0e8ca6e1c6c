"""Where encoded prefixes are kept: in memory within a bound, or in a folder that later trainings read too.

The folder holds `prefixes.bin`, the numbers of one group behind the other, and `index.jsonl`, which says of
what they are and where each group lies. A group's line is written after its numbers, so a training that is
killed loses the group it was at; the next one goes on behind the last whole one.
"""

from __future__ import annotations

import fcntl
import json
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from solver.errors import ConfigError, InputError
from solver.files.jsonl import JsonlFile

# bfloat16 keys and values [2, layers, kv_heads, tokens, dim]; float32 states [rows, hidden]
Kept = tuple[Tensor, Tensor]

_NUMBERS, _INDEX = "prefixes.bin", "index.jsonl"


class Shelf(Protocol):
    """Keeps groups of prefixes by a key that says what they are."""

    def __contains__(self, key: str) -> bool:
        """Whether something was put under `key`."""
        ...

    def get(self, key: str) -> Kept | None:
        """What was put under `key`."""
        ...

    def put(self, key: str, kept: Kept) -> bool:
        """Keep it; False if there is no room."""
        ...


class MemoryShelf:
    """Keeps groups in CPU memory, as many as fit in `max_bytes`."""

    def __init__(self, max_bytes: float) -> None:
        self.num_bytes = 0
        self._max_bytes, self._kept = max_bytes, dict[str, Kept]()

    def __contains__(self, key: str) -> bool:
        """Whether something was put under `key`."""
        return key in self._kept

    def get(self, key: str) -> Kept | None:
        """What was put under `key`."""
        return self._kept.get(key)

    def put(self, key: str, kept: Kept) -> bool:
        """Keep it; False if there is no room."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in kept)
        if self.num_bytes + size > self._max_bytes:
            return False
        self._kept[key] = kept
        self.num_bytes += size
        return True


class _Place(BaseModel):
    """A line of the index: where a group's numbers begin, and the shapes of its two tensors."""

    key: str
    begin: int
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def end(self) -> int:
        return self.begin + 2 * prod(self.shapes[0]) + 4 * prod(self.shapes[1])


class FolderShelf:
    """Keeps groups in a folder, as many as the disk has room for."""

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        """Open or create it. `identity` says what computed the numbers.

        Several trainings may read at the same time; one that writes is alone. Raises `ConfigError` if the
        folder's numbers are another model's or another training is writing them.
        """
        self._folder, self._identity = folder, identity
        self._places: dict[str, _Place] = {}
        self._writes = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._numbers = (folder / _NUMBERS).open("ab")
        except OSError as error:
            raise ConfigError(f"cannot write {folder}: {error.strerror}") from None
        try:
            self._lock(fcntl.LOCK_SH)
            self._open_index()
        except BaseException:
            self._numbers.close()
            raise

    def close(self) -> None:
        """Let others write."""
        self._numbers.close()

    def __contains__(self, key: str) -> bool:
        """Whether something was put under `key`."""
        return key in self._places

    def get(self, key: str) -> Kept | None:
        """What was put under `key`, read anew."""
        if (place := self._places.get(key)) is None:
            return None
        first, second = place.shapes
        numbers = np.fromfile(
            self._folder / _NUMBERS, np.uint8, count=place.end - place.begin, offset=place.begin
        )
        raw, middle = torch.from_numpy(numbers), 2 * prod(first)
        return (
            raw[:middle].view(torch.bfloat16).view(first),
            raw[middle:].view(torch.float32).view(second),
        )

    def put(self, key: str, kept: Kept) -> bool:
        """Keep it. Raises `InputError` if it cannot be written, `ConfigError` if others have it open."""
        if not self._writes:
            self._begin_to_write()
        begin = self._numbers.tell()
        try:
            for tensor in kept:
                self._numbers.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
            self._numbers.flush()
        except OSError as error:
            raise InputError(f"cannot write {self._folder}: {error.strerror}") from None
        place = _Place(key=key, begin=begin, shapes=(tuple(kept[0].shape), tuple(kept[1].shape)))
        self._index.append(place.model_dump_json())
        self._places[key] = place
        return True

    def _begin_to_write(self) -> None:
        """Shut others out, take what they wrote, and cut off what one that was killed left unfinished."""
        self._lock(fcntl.LOCK_EX)
        self._open_index()
        end = max((place.end for place in self._places.values()), default=0)
        self._numbers.truncate(end)
        self._numbers.seek(end)
        self._writes = True

    def _lock(self, kind: int) -> None:
        try:
            fcntl.flock(self._numbers, kind | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{self._folder} is in use by a training that has not ended"
            ) from None

    def _open_index(self) -> None:
        self._index = JsonlFile(
            self._folder / _INDEX, json.dumps(self._identity), self._read, alone=False
        )

    def _read(self, lines: list[bytes]) -> None:
        try:
            known = json.loads(lines[0])
            places = [_Place.model_validate_json(line) for line in lines[1:]]
        except (IndexError, ValueError, ValidationError):
            raise ConfigError(f"{self._folder} holds no prefixes, or they are damaged") from None
        for name, value in self._identity.items():
            if known.get(name) != value:
                raise ConfigError(
                    f"the prefixes in {self._folder} are of another {name}: name another folder"
                )
        size = (self._folder / _NUMBERS).stat().st_size
        self._places = {place.key: place for place in places if place.end <= size}
