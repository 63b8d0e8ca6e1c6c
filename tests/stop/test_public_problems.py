"""benchmarks.public_problems: the parts that published results are measured on."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.public_problems import PARTS, app, part_of
from solver.cli.app import run_app
from solver.files.problems import load_problems
from solver.stop.rollouts.rollout import statement_digest


def _write(path: Path, statements: list[tuple[str, str]]) -> None:
    rows = [
        {"id": f"{path.stem}-{n}", "problem": statement, "answer": answer}
        for n, (statement, answer) in enumerate(statements)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_parts_are_all_hundredths_and_go_by_the_statement_alone() -> None:
    assert sum(PARTS.values()) == 100
    assert part_of("00000000ab") == "pilot"
    assert part_of("00000005ab") == "test"  # the first place behind the pilot's
    assert part_of("00000063ab") == "train"  # 99
    digest = statement_digest("How  many APPLES?")
    assert part_of(digest) == part_of(statement_digest("how many apples?"))


def test_each_problem_is_in_one_part_and_duplicates_and_other_answers_are_in_none(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "apples_test.jsonl", tmp_path / "pears.jsonl"
    _write(first, [(f"How many apples are {n} apples?", str(n)) for n in range(60)])
    _write(
        second,
        [
            ("how many apples are 7 apples?", "7"),
            ("How many pears?", "3"),
            ("How many plums?", "a few"),
        ],
    )
    out = tmp_path / "parts"
    assert run_app(app, [str(first), str(second), "--out", str(out)]) == 0
    parts = {part: out / f"apples.{part}.jsonl" for part in PARTS}
    found = {
        part: {p.statement for p in load_problems(path)}
        for part, path in parts.items()
        if path.read_text()
    }
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 60
    for part, statements in found.items():
        assert {part_of(statement_digest(statement)) for statement in statements} == {part}
    pears = [out / f"pears.{part}.jsonl" for part in PARTS]
    assert [p.statement for path in pears if path.read_text() for p in load_problems(path)] == [
        "How many pears?"
    ]


def test_variants_of_test_problems_can_be_kept_out_of_the_other_parts(tmp_path: Path) -> None:
    things = tmp_path / "things.jsonl"
    names = [
        f"{a}{b}" for a in ("red", "old", "big", "raw", "wet") for b in ("cat", "dog", "hen", "pig")
    ]
    # of each two variants, which differ in a number
    told = [f"A {name} eats {n} kilos; how many {name}s eat ten?" for name in names for n in (2, 5)]
    _write(things, [(statement, "2") for statement in told])
    assert run_app(app, [str(things), "--out", str(tmp_path / "all")]) == 0
    assert run_app(app, [str(things), "--out", str(tmp_path / "some"), "--apart", "0.9"]) == 0

    def read(out: str, part: str) -> set[str]:
        path = tmp_path / out / f"things.{part}.jsonl"
        return {p.statement for p in load_problems(path)} if path.read_text() else set()

    tested = {statement.split()[1] for statement in read("all", "test")}
    assert read("some", "test") == read("all", "test")
    for part in ("pilot", "train", "validation"):
        far = {s for s in read("all", part) if s.split()[1] not in tested}
        assert read("some", part) == far
    variants = {s for s in read("all", "train") if s.split()[1] in tested}
    assert tested and variants and read("some", "train"), "the example has all three kinds"


def test_files_of_one_set_share_its_parts(tmp_path: Path) -> None:
    for half, numbers in (("train", range(30)), ("test", range(25, 60))):
        _write(tmp_path / f"plums_{half}.jsonl", [(f"{n} plums?", str(n)) for n in numbers])
    files = [str(tmp_path / f"plums_{half}.jsonl") for half in ("train", "test")]
    assert run_app(app, [*files, "--out", str(tmp_path / "out")]) == 0
    written = [path.read_text() for path in (tmp_path / "out").iterdir()]
    assert sum(text.count("plums?") for text in written) == 60
