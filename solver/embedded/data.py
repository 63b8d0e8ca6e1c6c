"""The encoded corpus: built in parallel, kept in one file, cut into batches of like lengths."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solver.cli.python import python
from solver.embedded.corpus import trajectory
from solver.embedded.tokens import encode, load_tokenizer, train_tokenizer
from solver.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # label of a position that does not count in the loss

_CHUNK = 500  # trajectories of one piece of parallel work
_POOL = 50  # batches that are grouped by length at a time

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Trajectories end to end: `ids` int16 [tokens], `learn` bool [tokens], lengths int32 [num]."""

    seed: int
    ids: Tensor
    learn: Tensor
    lengths: Tensor
    plan_lengths: Tensor
    sampled_lengths: Tensor

    def __len__(self) -> int:
        """The number of trajectories."""
        return len(self.lengths)

    def mark(self) -> int:
        """The smallest multiple of 4 that is at least the 99th percentile of the plans' lengths."""
        ranked = self.plan_lengths.sort().values
        return -(-int(ranked[int(0.99 * (len(ranked) - 1))]) // 4) * 4

    def head(self, num: int) -> Corpus:
        """The first `num` trajectories; InputError if there are fewer."""
        if num > len(self):
            raise InputError(f"the corpus holds {len(self)} trajectories, not {num}")
        end = int(self.lengths[:num].sum())
        return Corpus(
            self.seed, self.ids[:end], self.learn[:end], self.lengths[:num],
            self.plan_lengths[:num], self.sampled_lengths[:num],
        )  # fmt: skip


def _encode_range(tokenizer: Any, start: int, stop: int, seed: int) -> list[Any]:
    """Columns of trajectories `start` to `stop`: flat ids, flat flags and three lists of lengths."""
    ids: list[int] = []
    learn: list[bool] = []
    lengths, plans, sampled = [], [], []
    for index in range(start, stop):
        encoded = encode(tokenizer, trajectory(index, seed))
        ids += encoded.ids
        learn += encoded.learn
        lengths.append(len(encoded.ids))
        plans.append(encoded.plan_length)
        sampled.append(encoded.sampled_length)
    return [ids, learn, lengths, plans, sampled]


def _encode_in_worker(folder: str, start: int, stop: int, seed: int) -> list[Any]:
    return _encode_range(_cached_tokenizer(folder), start, stop, seed)


@cache
def _cached_tokenizer(folder: str) -> Any:
    return load_tokenizer(Path(folder))


def build(folder: Path, num: int, seed: int, workers: int, report: Report) -> Corpus:
    """Write tokenizer and corpus of `num` trajectories to the folder; returns the corpus.

    The result depends on `num` and `seed` only, not on `workers`. `report(done, num)` is called
    as work goes on. A folder that already holds this corpus, or a longer one that begins with it,
    is read instead; InputError if the folder holds another one.
    """
    import torch

    file = folder / "corpus.pt"
    if file.exists():
        return load(folder, seed).head(num)
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer(seed).save_pretrained(folder / "tokenizer")
    cuts = [(start, min(start + _CHUNK, num)) for start in range(0, num, _CHUNK)]
    columns: list[list[Any]] = [[], [], [], [], []]

    def take(results: Iterator[list[Any]]) -> None:
        for (_, done), pieces in zip(cuts, results, strict=True):
            for column, piece in zip(columns, pieces, strict=True):
                column.append(piece)
            report(done, num)

    if workers > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            futures = [
                pool.submit(_encode_in_worker, str(folder / "tokenizer"), start, stop, seed)
                for start, stop in cuts
            ]
            take(future.result() for future in futures)
    else:
        tokenizer = load_tokenizer(folder / "tokenizer")
        take(_encode_range(tokenizer, start, stop, seed) for start, stop in cuts)
    kinds = (torch.int16, torch.bool, torch.int32, torch.int32, torch.int32)
    tensors = [
        torch.cat([torch.tensor(piece, dtype=kind) for piece in column])
        for column, kind in zip(columns, kinds, strict=True)
    ]
    partial = file.with_suffix(".part")
    torch.save((seed, *tensors), partial)
    partial.replace(file)
    return Corpus(seed, *tensors)


def load(folder: Path, seed: int) -> Corpus:
    """The corpus that `build` wrote to the folder; InputError if there is none of this seed."""
    import torch

    file = folder / "corpus.pt"
    if not file.exists():
        raise InputError(
            f"no corpus in {folder}: make one with {python()} -m solver.embedded corpus"
        )
    corpus = Corpus(*torch.load(file, weights_only=True))
    if corpus.seed != seed:
        raise InputError(f"the corpus in {folder} has seed {corpus.seed}, not {seed}")
    return corpus


def batch_order(lengths: Tensor, batch_size: int, seed: int) -> list[Tensor]:
    """Indices of each batch of one epoch: shuffled, of like lengths, a short last one dropped."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=generator)
    batches: list[Tensor] = []
    for pool in torch.split(order, _POOL * batch_size):
        ranked = pool[lengths[pool].argsort(stable=True)]
        batches += [batch for batch in torch.split(ranked, batch_size) if len(batch) == batch_size]
    shuffled = torch.randperm(len(batches), generator=generator)
    return [batches[int(place)] for place in shuffled]


def collate(corpus: Corpus, starts: Tensor, batch: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Ids and labels of a batch, int64 [batch, longest], padded at the right.

    `starts` int64 [num] holds the place of each trajectory's first id. Padding needs no mask: no
    real position looks to its right.
    """
    import torch

    longest = int(corpus.lengths[batch].max())
    ids = torch.full((len(batch), longest), pad)
    labels = torch.full((len(batch), longest), IGNORED)
    for row, index in enumerate(batch.tolist()):
        start, length = int(starts[index]), int(corpus.lengths[index])
        piece = corpus.ids[start : start + length].long()
        ids[row, :length] = piece
        labels[row, :length] = piece.masked_fill(~corpus.learn[start : start + length], IGNORED)
    return ids, labels
