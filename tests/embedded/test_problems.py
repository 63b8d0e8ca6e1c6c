"""The hold-out and the problem files."""

import csv
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.embedded.corpus import trajectory
from solver.embedded.families import FAMILIES, Family, Kind
from solver.embedded.problems import Split, draw, problems, split_of, write_csv
from solver.errors import InputError


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FAMILIES), st.sampled_from(list(Split)), st.integers(0, 10**6))
def test_a_problem_lies_in_its_own_split_whatever_the_order_of_its_numbers(
    family: Family, split: Split, seed: int
) -> None:
    problem = draw(family, split, Random(seed))
    turned = dict(reversed(problem.numbers.items()))
    assert [s for s in Split if split_of(family.name, turned) is s] == [split]


def test_splits_never_share_a_setting() -> None:
    ids = {split: {p.id for p in problems(split, 240, seed=3)} for split in Split}
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) == 4 * 240
    assert all(trajectory(index, 0).problem.id not in ids[Split.TEST] for index in range(200))


def test_families_are_in_equal_shares_without_repeats() -> None:
    rows = problems(Split.TEST, 120, seed=1)
    assert len({row.id for row in rows}) == 120
    assert {sum(r.family == family.name for r in rows) for family in FAMILIES} == {10}
    assert {sum(r.kind is kind for r in rows) for kind in Kind} == {40}


def test_the_seed_decides() -> None:
    assert problems("test", 24, seed=1) == problems("test", 24, seed=1)
    assert problems("test", 24, seed=1) != problems("test", 24, seed=2)


def test_both_wordings_of_every_family_occur() -> None:
    rows = problems(Split.STOP, 360, seed=0)
    assert len({(row.family, row.reading) for row in rows}) == 2 * len(FAMILIES)


@pytest.mark.parametrize(("split", "num"), [("train", 5), ("test", 0)])
def test_bad_requests_are_one_clear_line(split: str, num: int) -> None:
    with pytest.raises(InputError) as caught:
        problems(split, num, seed=0)
    assert "\n" not in str(caught.value)


def test_the_csv_reads_back(tmp_path: Path) -> None:
    rows = problems("test", 12, seed=1)
    write_csv(rows, tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        back = list(csv.DictReader(file))
    assert [(b["id"], b["problem"], int(b["answer"]), b["family"], b["kind"]) for b in back] == [
        (r.id, r.statement, r.answer, r.family, r.kind.value) for r in rows
    ]


def test_the_example_file_is_thirty_test_problems_balanced_over_kinds(tmp_path: Path) -> None:
    write_csv(problems("test", 30, seed=0), tmp_path / "p.csv")
    example = Path(__file__).parents[2] / "examples" / "problems.csv"
    assert example.read_text() == (tmp_path / "p.csv").read_text()
    with example.open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert {kinds.count(kind.value) for kind in Kind} == {10}
