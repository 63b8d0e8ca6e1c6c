from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.errors import InputError
from solver.stop.rollouts.examples import (
    StopExample,
    check_classes,
    digest,
    read_examples,
    write_examples,
)
from solver.stop.training.batches import plan_epoch, split_by_problem


def row(**changes: Any) -> dict[str, Any]:
    return {"prefix_token_ids": [3, 4], "soft_label": 0.25, "problem_id": "p", **changes}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(s if isinstance(s, str) else json.dumps(s) + "\n" for s in lines))
    return path


def test_a_round_trip(tmp_path: Path) -> None:
    examples = [
        StopExample(prefix_token_ids=(1, 2), soft_label=0.5, problem_id="a", kind="b", weight=3),
        StopExample(
            prefix_token_ids=(5,), soft_label=1, problem_id="b", num_rollouts=4, num_correct=4,
            logprobs=(-0.5,), family="f",
        ),
    ]  # fmt: skip
    path = tmp_path / "data.jsonl"
    write_examples(path, examples)
    assert read_examples(path) == examples
    assert digest(read_examples(path)) == digest(examples) != digest(examples[:1])
    assert [p.name for p in tmp_path.iterdir()] == ["data.jsonl"]


def test_rows_of_the_authors(tmp_path: Path) -> None:
    path = write(
        tmp_path / "theirs.jsonl",
        {"prefix_token_ids": [1, 2], "Soft_label": 0.75, "question": "?"},
        {"prefix_token_ids": [1], "soft_label": 0},
    )
    examples = read_examples(path)
    assert [e.soft_label for e in examples] == [0.75, 0.0]
    other = write(tmp_path / "more.jsonl", {"prefix_token_ids": [1], "soft_label": 0})
    assert len({e.problem_id for e in [*examples, *read_examples(other)]}) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (row(soft_label=1.01), "line 2: soft_label = .*: .*less than or equal to 1"),
        (row(soft_label=-0.1), "line 2: soft_label"),
        ('{"prefix_token_ids": [1], "soft_label": NaN}\n', "line 2: soft_label"),
        (row(weight=0), "line 2: weight"),
        (row(prefix_token_ids=[]), "line 2: prefix_token_ids"),
        (row(prefix_token_ids=[3, 40]), "line 2: id 40 is beyond the model's vocabulary of 40 ids"),
        (row(prefix_token_ids=[-1]), "line 2: id -1 is beyond"),
        (row(num_correct=5, num_rollouts=4), "line 2: more correct"),
        ('{"prefix_token_ids": [1, 2', "line 2 is torn or not JSON"),
        ("[]\n", "line 2: row"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: Any, words: str) -> None:
    path = write(tmp_path / "data.jsonl", row(), line)
    with pytest.raises(InputError, match=words) as caught:
        read_examples(path, 40)
    assert "\n" not in str(caught.value)


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no examples"):
        read_examples(write(tmp_path / "empty.jsonl", "\n"))
    with pytest.raises(InputError, match="cannot read"):
        read_examples(tmp_path / "missing.jsonl")
    same = [StopExample(prefix_token_ids=(1,), soft_label=1)] * 3
    with pytest.raises(InputError, match="every label is 1"):
        check_classes(same, "the training part")
    with pytest.raises(InputError, match="one problem"):
        split_by_problem(same, 0.2, 0)


@given(
    problems=st.lists(st.integers(0, 12), min_size=2, max_size=60).filter(
        lambda p: len(set(p)) > 1
    ),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_problems_are_never_split(problems: list[int], share: float, seed: int) -> None:
    data = [
        StopExample(prefix_token_ids=(i + 1,), soft_label=0.5, problem_id=str(problem))
        for i, problem in enumerate(problems)
    ]
    training, validation = split_by_problem(data, share, seed)
    assert {e.problem_id for e in training}.isdisjoint(e.problem_id for e in validation)
    assert sorted(e.prefix_token_ids for e in [*training, *validation]) == sorted(
        e.prefix_token_ids for e in data
    )
    assert training and validation
    assert split_by_problem(data, share, seed) == (training, validation)


@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=200),
    batch_size=st.integers(1, 40),
    epoch=st.integers(0, 3),
)
def test_an_epoch_sees_everything_once(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = plan_epoch(lengths, batch_size, 0, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert plan_epoch(lengths, batch_size, 0, epoch) == batches
