"""Rollouts on disk: cut as a run would cut them, gone on with after a crash, refused when they differ."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from solver.errors import InputError
from solver.stop.rollouts.file import (
    RolloutFile,
    SamplingHeader,
    as_stored,
    read_rollouts,
    write_rollouts,
)
from solver.stop.rollouts.rollout import (
    ProblemRollouts,
    Rollout,
    num_errors,
    saved_turns,
    statement_digest,
)
from solver.types import Problem, StopReason, Trajectory, Turn

HEADER = SamplingHeader(
    model="m",
    prompt="bare",
    seed=0,
    launch=2,
    continuations=1,
    stored_tokens=8,
    share_calls=False,
    sampling={"temperature": 1.0},
)


def trajectory() -> Trajectory:
    ran = ExecutionResult(status=ExecutionStatus.OK, stdout="6")
    return Trajectory(
        "p",
        0,
        5,
        (1, 2),
        [
            Turn([10, 11, 12], [-0.1] * 3, [1.0] * 3, [0.5] * 3, "print(6)", ran, (90, 91)),
            Turn([13, 14, 15, 16], [-0.2] * 4),
        ],
        StopReason.ANSWERED,
        6,
    )


def unit(stored: int = 8, **changes: object) -> ProblemRollouts:
    whole = trajectory()
    fields = {
        "index": 0,
        "stop_reason": StopReason.ANSWERED,
        "answer": 6,
        "num_sampled_tokens": 7,
        "turns": saved_turns(whole, stored),
        **changes,
    }
    return ProblemRollouts(
        problem_id="p",
        block=0,
        answer=6,
        tags={"kind": "tie"},
        prompt_token_ids=[1, 2],
        rollouts=[Rollout.model_validate(fields)],
    )


@pytest.mark.parametrize(
    ("mark", "ids"),
    [
        (2, [1, 2, 10, 11]),
        (3, [1, 2, 10, 11, 12]),  # the call is complete, but not executed yet
        (4, [1, 2, 10, 11, 12, 90, 91, 13]),
        (6, [1, 2, 10, 11, 12, 90, 91, 13, 14, 15]),
    ],
)
def test_cuts(mark: int, ids: list[int]) -> None:
    for stored in (mark, 8):
        it = unit(stored)
        prefix = it.prefix(it.rollouts[0], mark)
        assert prefix is not None
        assert prefix.token_ids == ids
        assert prefix.num_sampled_tokens == mark == len(prefix.logprobs)
        assert prefix.stop_reason is StopReason.MARK


def test_who_ended_by_the_mark_has_no_prefix() -> None:
    it = unit()
    assert it.prefix(it.rollouts[0], 7) is None
    assert it.prefix(it.rollouts[0], 8) is None
    paused = unit(stop_reason=StopReason.MARK)
    assert paused.prefix(paused.rollouts[0], 7) is not None
    continuation = unit(parent=1, turns=[])
    assert continuation.prefix(continuation.rollouts[0], 2) is None


def test_a_mark_counts_no_forced_tokens() -> None:
    """Who ended its turn before the mark and was asked for an answer votes before it, as in a run."""
    forced = unit(num_own_tokens=5)
    assert forced.prefix(forced.rollouts[0], 5) is None
    assert forced.prefix(forced.rollouts[0], 6) is None
    assert forced.prefix(forced.rollouts[0], 4) is not None


def test_a_mark_beyond_what_is_stored() -> None:
    it = unit(4)
    with pytest.raises(InputError, match="only 4 tokens"):
        it.prefix(it.rollouts[0], 6)


def test_the_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "rollouts.jsonl"
    with closing(RolloutFile(path, HEADER)) as file:
        file.append(unit())
    with path.open("ab") as torn:
        torn.write(b'{"problem_id":"q","blo')
    with closing(RolloutFile(path, HEADER)) as again:
        assert again.done == [unit()]
        again.append(unit(stop_reason=StopReason.ERROR))
    header, units = read_rollouts(path)
    assert header == HEADER
    assert units == [unit(), unit(stop_reason=StopReason.ERROR)]
    assert num_errors(units) == 1


def test_another_sampling_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    RolloutFile(path, HEADER).close()
    for name, value in (("seed", 1), ("sampling", {"temperature": 0.6}), ("stored_tokens", 9)):
        with pytest.raises(InputError, match=f"sampled with {name}"):
            RolloutFile(path, HEADER.model_copy(update={name: value}))
    less = HEADER.model_copy(update={"stored_tokens": 4})
    with closing(RolloutFile(path, less)) as shorter:
        assert shorter.stored_tokens == 8
    assert as_stored(less, path) == HEADER
    assert as_stored(HEADER, tmp_path / "none") == HEADER


def test_one_command_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with (
        closing(RolloutFile(path, HEADER)),
        pytest.raises(InputError, match="in use by a command that has not ended"),
    ):
        RolloutFile(path, HEADER)
    RolloutFile(path, HEADER).close()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", none)
    with closing(RolloutFile(tmp_path / "r.jsonl", HEADER)) as file:
        file.append(unit())
    assert read_rollouts(tmp_path / "r.jsonl")[1] == [unit()]


def test_rollouts_of_another_problem_with_the_same_id_are_refused(tmp_path: Path) -> None:
    """Ids of files without a column for them are line numbers."""
    path = tmp_path / "r.jsonl"
    known = unit().model_copy(update={"statement": statement_digest("What is 1 + 1?")})
    write_rollouts(path, HEADER, [known])
    same = Problem(known.problem_id, "what is  1 + 1?", 2)
    RolloutFile(path, HEADER, [same]).close()
    with pytest.raises(InputError, match=f"another problem with the id {known.problem_id!r}"):
        RolloutFile(path, HEADER, [replace(same, statement="What is 1 + 2?")])
    write_rollouts(path, HEADER, [unit()])  # an older file does not know
    RolloutFile(path, HEADER, [same]).close()


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(InputError, match="cannot read"):
        read_rollouts(path)
    path.write_text("no\n")
    with pytest.raises(InputError, match="does not begin"):
        read_rollouts(path)
    path.write_text(HEADER.model_dump_json() + "\n{}\n")
    with pytest.raises(InputError, match="line 2 is damaged"):
        read_rollouts(path)
    path.write_text(HEADER.model_dump_json())  # without its newline: not ours to write over
    with pytest.raises(InputError, match="does not begin"):
        RolloutFile(path, HEADER)
    path.write_text("")
    RolloutFile(path, HEADER).close()
    assert read_rollouts(path) == (HEADER, [])
