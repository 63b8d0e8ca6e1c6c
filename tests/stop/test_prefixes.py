"""What training reads of the base model: siblings packed together against each prefix for itself."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solver.adapter.gate import StopGate
from solver.adapter.score import encode_prefixes, stop_states
from solver.errors import ConfigError
from solver.stop.training import siblings
from solver.stop.training.prefixes import PrefixStore
from solver.stop.training.shelf import FolderShelf, MemoryShelf
from solver.stop.training.siblings import (
    encode_siblings,
    group_siblings,
    sibling_stop_states,
)
from tests.support.tiny_models import STOP_IDS, loud_adapter, tiny_model

# Two problems: siblings that part after 5 ids, one that another continues, one cut where all still agree,
# and a problem with a single prefix.
SHARED = [9, 3, 12, 30, 7]
PREFIXES = [
    [*SHARED, 4, 5, 6],
    [*SHARED, 8, 2, 2, 3, 31, 9],
    [*SHARED, 8, 2, 2],
    SHARED[:4],
    [20, 21, 22],
    [*SHARED, 11],
]
PROBLEMS = ["a", "a", "a", "a", "b", "a"]
ONE_TOKEN = 2 * 2 * 2 * 8 * 2  # keys and values, layers, heads, head size, bytes


def test_siblings_share_what_is_the_same() -> None:
    first, second = group_siblings(PREFIXES, PROBLEMS)
    assert first.shared == tuple(SHARED)
    assert sorted(first.rests) == [(4, 5, 6), (8, 2, 2, 3, 31, 9), (11,)]
    assert first.num_tokens == 5 + 3 + 6 + 1
    assert {row.place: row.length for row in first.rows} == {0: 8, 1: 11, 2: 8, 3: 4, 5: 6}
    assert (second.shared, second.rests) == ((20, 21, 22), ((),))


@given(
    st.lists(st.tuples(st.lists(st.integers(2, 4), min_size=1, max_size=6), st.sampled_from("ab")),
             min_size=1, max_size=12)
)  # fmt: skip
def test_every_prefix_is_in_one_group(rows: list[tuple[list[int], str]]) -> None:
    prefixes, problems = [ids for ids, _ in rows], [problem for _, problem in rows]
    found = {}
    for group in group_siblings(prefixes, problems):
        for row in group.rows:
            assert row.place not in found
            whole = (*group.shared, *group.rests[row.member])
            found[row.place] = list(whole[: row.length])
    assert found == dict(enumerate(prefixes))


def test_a_long_problem_has_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "LONGEST", 12)
    groups = group_siblings(PREFIXES, PROBLEMS)
    assert len(groups) == 3 and max(group.num_tokens for group in groups) <= 12
    assert sorted(row.place for group in groups for row in group.rows) == list(range(6))


@pytest.mark.parametrize("pass_tokens", [4, 2048])
def test_packed_siblings_score_as_each_for_itself(
    architecture: str, monkeypatch: pytest.MonkeyPatch, pass_tokens: int
) -> None:
    """Every architecture, sliding windows too; gradients as well; some of the rows only."""
    monkeypatch.setattr(siblings, "_ENCODED", pass_tokens)
    model = tiny_model(architecture)
    adapter = loud_adapter(model)
    groups = group_siblings(PREFIXES, PROBLEMS)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(5))
    with StopGate.attach(model, adapter):
        encoded = [encode_siblings(model, group)[0] for group in groups]
        for numbers in ([[0, 1, 2, 3, 4], [0]], [[3, 1], [0]]):
            parts = list(zip(groups, numbers, encoded, strict=True))
            packed = sibling_stop_states(model, STOP_IDS, parts)
            rows = [group.rows[n].place for group, some, _ in parts for n in some]
            alone = torch.cat(
                [
                    stop_states(model, STOP_IDS, encode_prefixes(model, [PREFIXES[row]]))
                    for row in rows
                ]
            )
            assert torch.allclose(packed, alone, atol=1e-4)
            ours, theirs = (
                torch.autograd.grad((states @ direction).sum(), adapter.embeddings)[0]
                for states in (packed, alone)
            )
            assert torch.allclose(ours, theirs, atol=1e-3 * float(theirs.abs().max()))


def test_the_store_rounds_to_bfloat16(architecture: str) -> None:
    model = tiny_model(architecture)
    adapter = loud_adapter(model)
    rows = [5, 4, 2, 2]
    with StopGate.attach(model, adapter), torch.no_grad():
        store = PrefixStore(model, PREFIXES, PROBLEMS, MemoryShelf(1e6))
        kept = store.stop_states(STOP_IDS, rows)
        exact = stop_states(
            model, STOP_IDS, encode_prefixes(model, [PREFIXES[row] for row in rows])
        )
    assert float((kept - exact).pow(2).mean()) < (0.02**2) * float(exact.pow(2).mean())


def test_last_states_are_the_base_models(architecture: str) -> None:
    model = tiny_model(architecture)
    store = PrefixStore(model, PREFIXES, PROBLEMS, MemoryShelf(1e6))
    found = store.states([4, 2, 3])
    for state, row in zip(found, (4, 2, 3), strict=True):
        ids = torch.tensor([PREFIXES[row]])
        assert torch.allclose(state, model.base_model(ids).last_hidden_state[0, -1], atol=1e-4)


def test_memory_has_a_bound() -> None:
    model, advanced = tiny_model("llama"), list[int]()
    states = 5 * 32 * 4
    shelf = MemoryShelf(15 * ONE_TOKEN + states)
    store = PrefixStore(model, PREFIXES, PROBLEMS, shelf)
    assert store.num_tokens == 18
    store.fill(advanced.append)
    assert (shelf.num_bytes, advanced) == (15 * ONE_TOKEN + states, [15])
    assert store.num_kept_tokens == 15
    bounded, unbounded = store, PrefixStore(model, PREFIXES, PROBLEMS, MemoryShelf(1e6))
    rows = list(range(6))
    assert torch.equal(bounded.stop_states(STOP_IDS, rows), unbounded.stop_states(STOP_IDS, rows))


def test_a_folder_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, of = tiny_model("llama"), {"base model": "m"}
    in_memory = PrefixStore(model, PREFIXES, PROBLEMS, MemoryShelf(1e6))
    in_memory.fill()
    shelf = FolderShelf(tmp_path / "kv", of)
    PrefixStore(model, PREFIXES[4:5], PROBLEMS[4:5], shelf).fill()
    shelf.close()
    with (tmp_path / "kv" / "prefixes.bin").open("ab") as file:
        file.write(b"the beginning of a group")  # killed while it was written
    size = (tmp_path / "kv" / "index.jsonl").stat().st_size
    for kept in (3, 18):
        shelf = FolderShelf(tmp_path / "kv", of)
        store = PrefixStore(model, PREFIXES, PROBLEMS, shelf)
        assert store.num_kept_tokens == kept
        advanced = list[int]()
        store.fill(advanced.append)
        assert sum(advanced) == 18 - kept
        rows = list(range(6))
        ours, theirs = (s.stop_states(STOP_IDS, rows) for s in (store, in_memory))
        assert torch.equal(ours, theirs)
        assert torch.equal(store.states(rows), in_memory.states(rows))
        shelf.close()
        # the second time nothing is computed
        monkeypatch.setattr("solver.stop.training.prefixes.encode_siblings", None)
    assert (tmp_path / "kv" / "index.jsonl").stat().st_size > size
    with pytest.raises(ConfigError, match="are of another base model"):
        FolderShelf(tmp_path / "kv", {"base model": "another"})


def test_trainings_share_a_finished_folder_and_the_one_that_writes_is_alone(tmp_path: Path) -> None:
    model, of = tiny_model("llama"), {"base model": "m"}
    first, second = (FolderShelf(tmp_path / "kv", of) for _ in range(2))
    some = PrefixStore(model, PREFIXES[4:5], PROBLEMS[4:5], first)
    with pytest.raises(ConfigError, match="in use by a training"):
        some.fill()
    second.close()
    some.fill()
    with pytest.raises(ConfigError, match="in use by a training"):
        FolderShelf(tmp_path / "kv", of)
    first.close()
    readers = [FolderShelf(tmp_path / "kv", of) for _ in range(2)]
    for shelf in readers:
        store = PrefixStore(model, PREFIXES[4:5], PROBLEMS[4:5], shelf)
        assert store.num_kept_tokens == some.num_tokens
        store.fill()
    for shelf in readers:
        shelf.close()


def test_a_training_that_begins_to_write_knows_what_others_wrote(tmp_path: Path) -> None:
    model, of = tiny_model("llama"), {"base model": "m"}
    early = FolderShelf(tmp_path / "kv", of)
    fcntl.flock(early._numbers, fcntl.LOCK_UN)  # what a change of locks does for a moment
    late = FolderShelf(tmp_path / "kv", of)
    PrefixStore(model, PREFIXES[:1], PROBLEMS[:1], late).fill()
    late.close()
    PrefixStore(model, PREFIXES[4:5], PROBLEMS[4:5], early).fill()
    early.close()
    shelf = FolderShelf(tmp_path / "kv", of)
    for part in (slice(0, 1), slice(4, 5)):
        ours = PrefixStore(model, PREFIXES[part], PROBLEMS[part], shelf)
        theirs = PrefixStore(model, PREFIXES[part], PROBLEMS[part], MemoryShelf(1e6))
        assert torch.equal(ours.stop_states(STOP_IDS, [0]), theirs.stop_states(STOP_IDS, [0]))
    shelf.close()


def test_the_order_of_marks_changes_nothing_that_is_kept() -> None:
    model, shelf = tiny_model("llama"), MemoryShelf(1e6)
    PrefixStore(model, PREFIXES, PROBLEMS, shelf).fill()
    size = shelf.num_bytes
    PrefixStore(model, PREFIXES[::-1], PROBLEMS[::-1], shelf).fill()
    assert shelf.num_bytes == size
