"""Collecting on scripts, with what it must count; and the command on a tiny model of random weights."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest

from solver.cli.progress import WorkProgress
from solver.embedded.problems import problems as embedded
from solver.embedded.problems import write_csv
from solver.engines.scripted import Fault
from solver.errors import EngineError, InputError
from solver.files.problems import load_problems
from solver.stop.__main__ import main
from solver.stop.commands.sampling import sampler_with
from solver.stop.rollouts.collect import collect, label, select, write_collected
from solver.stop.rollouts.examples import read_examples
from solver.stop.rollouts.file import SamplingHeader, read_rollouts
from solver.stop.rollouts.heldout import refuse_held_out
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.rollouts.sample import SamplingPlan, sample_all, sample_problem
from solver.types import Problem, StopReason
from tests.scorers.conftest import save_tiny_model
from tests.support import run_virtual
from tests.support.progress import HeardProgress
from tests.support.rig import END, TOKENIZER, Rig, config, every, ids, says

CALL = "```python\nprint({})\n```\n"


def problem(name: str = "p", answer: int = 7) -> Problem:
    return Problem(name, "1+1?", answer, {"family": "sums", "kind": "tie"})


def sampled(rig: Rig, plan: SamplingPlan, name: str = "p") -> ProblemRollouts:
    async def work() -> ProblemRollouts:
        services = rig.services()
        slots = asyncio.Semaphore(plan.in_flight)
        return await sample_problem(problem(name), 0, plan, services, slots)

    return run_virtual(work())


def test_each_rollouts_own_end_is_its_label() -> None:
    tales = [
        "plan A......" + says(7),
        "plan A......" + says(3),
        "plan B......" + says(7),
        says(7),  # over before the mark
    ]
    unit = sampled(Rig(says=every(tales)), SamplingPlan(launch=4, mark=14))
    one, other = label(unit, 12)
    assert one.prefix_token_ids[-12:] == tuple(ids("plan A......"))
    assert (one.soft_label, one.weight, one.num_correct, one.num_rollouts) == (0.5, 2, 1, 2)
    assert (other.soft_label, other.weight) == (1.0, 1)
    assert (one.problem_id, one.family, one.kind) == ("p", "sums", "tie")
    assert one.logprobs == (-1.0,) * 12
    assert [len(label(unit, mark)) for mark in (1, 14)] == [2, 2]


def test_continuations_are_fresh_and_counted() -> None:
    def script(trajectory_id: str, so_far: tuple[int, ...]) -> list[int]:
        index = int(trajectory_id.partition("#")[2])
        text = ("plan A.." if index in (0, 2) else "plan B..") + says(7 if index % 3 == 0 else 1)
        return ids(text)[len(so_far) - prompt_length :]

    rig = Rig(says=script)
    prompt_length = len(sampled(Rig(says=every([says(1)])), SamplingPlan(1, 8)).prompt_token_ids)
    unit = sampled(rig, SamplingPlan(launch=3, mark=8, continuations=4))
    launched, continued = unit.rollouts[:3], unit.rollouts[3:]
    assert [r.stop_reason for r in launched] == [StopReason.MARK] * 3
    assert [r.parent for r in continued] == [0] * 4 + [1] * 4
    assert [r.index for r in continued] == list(range(3, 11))
    assert all(not r.turns for r in continued)
    a, b = label(unit, 8)
    # continuations 3 and 6 of A, 9 of B are right
    assert (a.weight, a.num_rollouts, a.num_correct, a.soft_label) == (2, 4, 2, 0.5)
    assert (b.weight, b.num_rollouts, b.num_correct, b.soft_label) == (1, 4, 1, 0.25)
    assert len(rig.engine.released) >= 11


def test_equal_prefixes_are_continued_once() -> None:
    rig = Rig(says=lambda name, so_far: ids("." * 400))
    rig.settings = config(sampling={"max_tokens": 20})
    unit = sampled(rig, SamplingPlan(launch=2, mark=8, continuations=3))
    assert [rollout.parent for rollout in unit.rollouts] == [None, None, 0, 0, 0]
    assert {name for name, _ in rig.requests} == {f"p#{index}" for index in range(5)}


def test_calls_before_the_mark_are_run_again_in_the_continuations_kernel() -> None:
    prompt = len(sampled(Rig(says=every([says(1)])), SamplingPlan(1, 8)).prompt_token_ids)

    def script(name: str, so_far: tuple[int, ...]) -> list[int]:
        text = str(TOKENIZER.decode(list(so_far[prompt:])))
        if "print(1)" not in text:
            return ids(CALL.format(1))
        if name == "p#0":
            return ids("\n" * 40)
        return ids(says(7) if "print(2)" in text else CALL.format(2))

    rig = Rig(says=script, prints=lambda code: "0\n")
    unit = sampled(rig, SamplingPlan(launch=1, mark=len(CALL.format(1)) + 5, continuations=2))
    by_lease: dict[int, list[str]] = {}
    for lease, code in rig.pool.executed:
        by_lease.setdefault(lease, []).append(code)
    assert by_lease[1] == ["print(1)"]
    assert by_lease[2] == by_lease[3] == ["print(1)", "print(2)"]
    assert [rollout.answer for rollout in unit.rollouts[1:]] == [7, 7]
    assert rig.pool.open_leases == 0


def test_equal_calls_are_shared_only_if_asked() -> None:
    tales = every([CALL.format(5) + says(n) for n in (7, 7, 1)])
    for share, runs in ((True, 1), (False, 3)):
        rig = Rig(says=tales)
        unit = sampled(rig, SamplingPlan(launch=3, mark=4, share_calls=share))
        assert len(rig.pool.executed) == runs
        assert [r.answer for r in unit.rollouts] == [7, 7, 1]


def test_failed_rollouts_count_for_nothing() -> None:
    tales = every(["." * 10 + says(7)] * 3)
    rig = Rig(says=tales, faults={"p#1": Fault(after=12)})
    unit = sampled(rig, SamplingPlan(launch=3, mark=10))
    [example] = label(unit, 10)
    assert (example.num_rollouts, example.num_correct, example.weight) == (2, 2, 3)
    with pytest.raises(EngineError, match="every rollout of p failed"):
        sampled(Rig(says={}), SamplingPlan(launch=3, mark=10))


def test_problems_without_a_signal_are_dropped() -> None:
    def unit(name: str, right: int) -> ProblemRollouts:
        tales = ["." * 10 + says(7 if n < right else 1) for n in range(8)]
        return sampled(Rig(says=every(tales, name)), SamplingPlan(launch=8, mark=10), name)

    short = sampled(Rig(says=every([says(7)], "s")), SamplingPlan(launch=1, mark=12), "s")
    units = [unit("none", 0), unit("some", 3), unit("all", 8), short]
    found = select(units, 10, 4 / 32, 28 / 32)
    assert {example.problem_id for example in found.examples} == {"some"}
    assert (found.num_too_hard, found.num_too_easy, found.num_without_prefix) == (1, 1, 1)
    assert "1 problems hardly ever right, 1 hardly ever wrong" in found.lines()[1]
    assert {e.problem_id for e in select(units, 10, 0, 1).examples} == {"none", "some", "all"}
    with pytest.raises(InputError, match="no examples"):
        write_collected(Path("nowhere"), select(units[:1], 10, 0.1, 0.9))


def header(plan: SamplingPlan) -> SamplingHeader:
    return SamplingHeader(
        model="m",
        prompt="bare",
        seed=0,
        launch=plan.launch,
        continuations=1,
        stored_tokens=plan.mark,
        share_calls=False,
        sampling={},
    )


def test_a_collection_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    plan = SamplingPlan(launch=2, mark=5, in_flight=3)
    names = ["a", "b", "c", "d"]
    tales: dict[str, str] = {}
    for name in names:
        tales |= every(["." * 6 + says(7)] * 2, name)
    progress = HeardProgress()

    def run(known: dict[str, str]) -> tuple[Rig, list[ProblemRollouts]]:
        rig = Rig(says=known)

        async def work() -> list[ProblemRollouts]:
            return await collect(
                [problem(name) for name in names],
                plan,
                header(plan),
                sampler_with(rig.services()),
                path,
                progress,
            )

        return rig, run_virtual(work())

    with pytest.raises(BaseExceptionGroup):
        run({name: text for name, text in tales.items() if name[0] != "d"})
    progress.reports.clear()
    rig, units = run(tales)
    assert progress.reports[0][1] > 0
    assert progress.reports[-1] == ("problems", 4, 4, "100.0% right")
    asked = {name[0] for name, _ in rig.requests}
    assert "d" in asked
    assert len(asked) == 4 - progress.reports[0][1]
    assert [unit.problem_id for unit in units] == names


def test_whole_rollouts_are_stored_to_their_ends() -> None:
    tales = [CALL.format(1) + "so" + says(7), "." * 20 + says(3), "no box" + END, "." * 60]
    settings = config(sampling={"max_tokens": 40}, answer={"ask": False})
    rig = Rig(says=every(tales), settings=settings)
    plan = SamplingPlan(launch=4, mark=5, stored=40)
    unit = sampled(rig, plan)
    called, long, silent, forced = unit.rollouts
    found = unit.whole(called)
    assert found is not None and found.num_sampled_tokens == called.num_sampled_tokens
    end = ids("so" + says(7))
    assert found.token_ids[-len(end) :] == end
    assert unit.whole(long) is not None and found.answer == 7
    assert unit.whole(silent) is None, "it casts no ballot"
    assert unit.whole(forced) is None, "its forced answer is not stored"
    assert [e.soft_label for e in label(unit, None)] == [1.0, 0.0]


def test_no_more_are_in_flight_than_allowed() -> None:
    plan = SamplingPlan(launch=4, mark=5, in_flight=6)
    tales: dict[str, str] = {}
    for number in range(5):
        tales |= every(["." * 9 + says(7)] * 4, f"q{number}")
    rig = Rig(says=tales)
    most = 0

    async def work() -> int:
        nonlocal most
        services = rig.services()
        done: list[ProblemRollouts] = []

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(rig.engine.open_requests))
                await asyncio.sleep(0.005)

        watcher = asyncio.create_task(watch())
        await sample_all([(problem(f"q{n}"), 0) for n in range(5)], plan, services, done.append)
        watcher.cancel()
        return len(done)

    assert run_virtual(work()) == 5
    assert most == 6


def test_held_out_problems(tmp_path: Path) -> None:
    rows = embedded("test", 3, 0) + embedded("stop", 3, 0)
    given = [Problem(row.id, row.statement, row.answer) for row in rows]
    with pytest.raises(InputError, match=r"3 problems are held out .*test split"):
        refuse_held_out(given, None)
    refuse_held_out(given[3:], None)
    listed = tmp_path / "ids.txt"
    listed.write_text(f"x\n {given[4].id}\n")
    with pytest.raises(InputError, match="1 problems are held out"):
        refuse_held_out(given[3:], listed)
    table = tmp_path / "held.csv"
    write_csv(rows[3:4], table)
    renamed = [Problem("new name", given[3].statement, 1)]
    tabs = tmp_path / "held.tsv"
    tabs.write_text(table.read_text().replace(",", "\t"))
    for file in (table, tabs):
        with pytest.raises(InputError, match="new name"):
            refuse_held_out(renamed, file)
    with pytest.raises(InputError, match="cannot read"):
        refuse_held_out(given[3:], tmp_path / "no.txt")


def test_line_numbers_are_no_ids_of_held_out_problems(tmp_path: Path) -> None:
    held_out = tmp_path / "test.csv"
    held_out.write_text("problem,answer\nWhat is 1 + 1?,2\n")
    [numbered] = load_problems(held_out)
    refuse_held_out([Problem(numbered.id, "What is 2 + 2?", 4)], held_out)
    with pytest.raises(InputError, match="1 problems are held out"):
        refuse_held_out([Problem("mine", numbered.statement, 2)], held_out)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def arithmetic(path: Path, answer: str = "7") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "problem", "answer"], ["a", "3+4?", answer]])
    return path


def flags(folder: Path, model: Path, *more: str) -> list[str]:
    return [
        "collect", "--out", str(folder / "data.jsonl"), "--model", str(model), "--launch", "3",
        "--mark", "5", "--set", "sampling.max_tokens=12", "--set", "model.prompt=bare",
        "--set", "model.device=cpu", "--quiet", *more,
    ]  # fmt: skip


def test_the_command(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(arithmetic(tmp_path / "p.csv"))
    given = flags(tmp_path, model_folder, "--problems", table, "--least-right", "0")
    assert main(given) == 0
    examples = read_examples(tmp_path / "data.jsonl")
    assert sum(example.weight for example in examples) == 3
    assert all(len(example.logprobs or ()) == 5 for example in examples)
    assert "of 1 problems" in capsys.readouterr().out
    assert main(given) == 2
    assert "--force replaces it" in capsys.readouterr().err
    before = (tmp_path / "data.jsonl").read_bytes()
    assert main([*given, "--force"]) == 0
    assert (tmp_path / "data.jsonl").read_bytes() == before
    assert main([*given, "--force", "--seed", "5"]) == 2
    assert "sampled with seed 0" in capsys.readouterr().err


def test_shards_are_the_collection(
    tmp_path: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = tmp_path / "p.csv"
    rows = [["id", "problem", "answer"], *([name, f"{name}+4?", "7"] for name in "abc")]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "whole").mkdir()
    some = ("--problems", str(table), "--least-right", "0")
    assert main(flags(tmp_path / "whole", model_folder, *some)) == 0
    given = flags(tmp_path, model_folder, *some)
    for place in (1, 2):
        assert main([*given, "--shard", f"{place}/2"]) == 0
    assert "without --shard" in capsys.readouterr().out
    assert not (tmp_path / "data.jsonl").exists()
    parts = [str(tmp_path / f"data.jsonl.rollouts.{place}-of-2.jsonl") for place in (1, 2)]
    merged = str(tmp_path / "data.jsonl.rollouts.jsonl")
    assert main(["merge", parts[0], parts[0], "--out", merged]) == 2
    assert f"is in {parts[0]} and in {parts[0]}" in capsys.readouterr().err
    assert main(["merge", *parts, "--out", merged]) == 0
    assert main(["merge", *parts, "--out", merged]) == 2
    assert "--force replaces it" in capsys.readouterr().err

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("there is nothing left to sample")

    monkeypatch.setattr("solver.build.services", loaded)
    assert main(given) == 0
    alone = read_examples(tmp_path / "whole" / "data.jsonl")
    for one, other in zip(read_examples(tmp_path / "data.jsonl"), alone, strict=True):
        # What else is in the batch changes how sums round, and nothing else.
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        alike = {"logprobs": None}
        assert one.model_copy(update=alike) == other.model_copy(update=alike)


def test_rollouts_of_other_settings_are_not_merged(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(arithmetic(tmp_path / "p.csv"))
    for seed in ("0", "1"):
        (tmp_path / seed).mkdir()
        given = flags(tmp_path / seed, model_folder, "--problems", table, "--least-right", "0")
        assert main([*given, "--seed", seed]) == 0
    parts = [str(tmp_path / seed / "data.jsonl.rollouts.jsonl") for seed in ("0", "1")]
    capsys.readouterr()
    assert main(["merge", *parts, "--out", str(tmp_path / "all.jsonl")]) == 2
    said = capsys.readouterr().err
    assert "was sampled with seed 1" in said and said.count("\n") == 1
    with Path(parts[1]).open("ab") as file:
        file.write(b'{"torn')
    assert main(["merge", parts[1], "--out", str(tmp_path / "all.jsonl")]) == 2
    assert "torn line" in capsys.readouterr().err
    assert not (tmp_path / "all.jsonl").exists()


def test_its_progress_counts_tokens_as_they_come(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    under_way: set[str] = set()

    def sampled(self: WorkProgress, num: int) -> None:
        counted.append(num)
        under_way.update(self._stages)

    monkeypatch.setattr(WorkProgress, "sampled", sampled)
    table = str(arithmetic(tmp_path / "p.csv"))
    assert main(flags(tmp_path, model_folder, "--problems", table, "--least-right", "0")) == 0
    (unit,) = read_rollouts(tmp_path / "data.jsonl.rollouts.jsonl")[1]
    assert sum(counted) == sum(rollout.num_sampled_tokens for rollout in unit.rollouts)
    assert len(counted) > 2 * len(unit.rollouts), "not only when a rollout ends"
    assert under_way == {"problems"}, "the model is loaded by then"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ([], "--problems FILE or --split NAME"),
        (["--split", "test"], "--split is stop or validation here"),
        (["--problems", "p.csv", "--split", "stop"], "--problems FILE or --split NAME"),
        (["--problems", "none.csv"], "no such file"),
        (["--split", "stop", "--least-right", "0.9"], "no problem would be left"),
        (["--problems", "blank.csv"], "1 problems have no answer"),
        (["--split", "stop", "--num", "3", "--mark", "900"], "the mark"),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arithmetic(Path("p.csv"))
    arithmetic(Path("blank.csv"), answer="")
    assert main(["collect", "--out", "data.jsonl", *more]) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
    assert not Path("data.jsonl").exists()
