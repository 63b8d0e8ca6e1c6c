"""The file: one, whole, and harmless whatever a statement or a model says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from solver.journal.events import EngineIncident
from solver.report import details
from solver.report.details import Details
from solver.report.page import data, embeddable, html, write_report
from solver.report.source import RunSource
from solver.types import Evidence, StopReason
from tests.report.builders import MARK, RunBuilder, three_problems, unpack

HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1></style>"
    "<!--<script>]]>\u2028\u2029\u202eevil\u2066&amp;{{7*7}}"
)


def page(folder: Path) -> str:
    return html(data([RunSource(folder)]))


def embedded(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def test_what_the_page_knows(finished: Path) -> None:
    shown = embedded(page(finished))
    (run,) = shown["runs"]
    assert (run["score"]["right"], run["score"]["graded"], run["state"]) == (2, 3, "finished")
    assert run["numbers"]["tokens"] == 180 and run["numbers"]["degraded"] == 1
    assert [notice["id"] for notice in run["notices"]] == ["product"]
    assert ["prune.launch", 3] in run["settings"]
    rows = [problem["r"][0] for problem in shown["problems"]]
    assert [(row["a"], row["ok"]) for row in rows] == [("4", True), ("8", False), ("9", True)]
    detail = unpack(shown["blocks"][rows[0]["b"]])
    assert detail["statement"][0] == "What is "
    assert detail["statement"][1]["s"] == "$2 + 2$"
    assert [lane["end"] for lane in detail["lanes"]] == ["answered", "answered", "pruned"]
    assert detail["lanes"][0]["steps"][1]["x"] == ["print(2 + 2)"]


def test_weights_are_told_where_there_are_any(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [("a", "?", 4), ("b", "?", 4)])
    run.solves("a", 4, {4: 1, 5: 2}, weights={4: 0.9526, 5: 0.2384})
    run.solves("b", 4, {4: 2, 5: 1})
    rows = [problem["r"][0] for problem in embedded(page(run.write()))["problems"]]
    assert [row["w"] for row in rows] == [[["4", 0.9526], ["5", 0.2384]], []]


def test_every_scorer_of_a_full_recording_is_judged(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [(f"p{k}", "1 + 1", 2) for k in range(8)])
    for name, _, _ in run.problems:
        run.start(name)
        run.also_scored(name, "reward", MARK, {0: 1.0, 1: 2.0})
        run.also_scored(name, "confidence", MARK, {0: -1.0, 1: -0.5})
        for index, answer in ((0, 1), (1, 2)):
            run.says(name, index, "so")
            run.ends(name, index, StopReason.ANSWERED, 2, answer)
        run.checks(name, {0: -1.0, 1: 1.0}, kept=[0, 1])
        run.solves(name, 2, {2: 1, 1: 1})
    (shown,) = embedded(page(run.write()))["runs"]
    judges = shown["judges"]
    assert [(j["scorer"], j["link"]) for j in judges] == [
        ("stop", "logit"), ("confidence", None), ("reward", "logit"),
    ]  # fmt: skip
    for judge in judges:
        assert judge["scored"] == [16, 16]
        # the higher score of each problem was right
        assert [(b[3], b[6]) for b in judge["bins"]] == [(0.0, 8), (1.0, 8)]


def test_the_last_check_is_judged_and_shown_with_each_trajectory(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [(f"p{k}", "1 + 1", 2) for k in range(8)])
    for name, _, _ in run.problems:
        run.start(name)
        for index, (answer, logit) in enumerate(((1, -2.0), (2, 3.0), (None, None))):
            run.says(name, index, "so")
            evidence = Evidence(verified=logit)
            run.ends(name, index, StopReason.ANSWERED, 2, answer, evidence=evidence)
        run.solves(name, 2, {2: 1, 1: 1})
    text = page(run.write())
    (shown,) = embedded(text)["runs"]
    judge = shown["judges"][-1]
    assert (judge["scorer"], judge["link"], judge["scored"]) == ("last check", "logit", [16, 16])
    assert [(b[1], b[3], b[6]) for b in judge["bins"]] == [(-2.0, 0.0, 8), (3.0, 1.0, 8)]
    detail = unpack(embedded(text)["blocks"][0])
    assert [lane["last"] for lane in detail["lanes"]] == [-2.0, 3.0, None]


def test_the_policy_allows_this_script_and_this_style_and_nothing_else(finished: Path) -> None:
    text = page(finished)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    policy = policy.replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and "connect-src" not in rules
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text


def test_the_script_makes_no_markup_out_of_text(finished: Path) -> None:
    text = page(finished)
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert word not in text


def test_hostile_text_ends_nothing(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [(f"id{HOSTILE}", HOSTILE, 4)])
    run.plays(f"id{HOSTILE}", (4, 5), 4, HOSTILE, said=HOSTILE, output=HOSTILE)
    run.add(EngineIncident(what=HOSTILE))
    text = page(run.write())
    assert text.count("<script") == text.count("</script>") == 2
    assert text.count("</style>") == 1 and "<img" not in text
    assert "\u2028" not in text and "\u202e" in text
    shown = embedded(text)
    assert shown["problems"][0]["id"] == f"id{HOSTILE}"
    detail = unpack(shown["blocks"][0])
    assert detail["lanes"][0]["steps"][2]["x"] == [HOSTILE]


def test_half_characters_and_odd_numbers_are_embeddable() -> None:
    assert json.loads(embeddable({"a": "\ud800<"})) == {"a": "?<"}
    with pytest.raises(ValueError):
        embeddable(float("nan"))


def test_a_score_that_is_no_number_does_not_cost_the_report(tmp_path: Path) -> None:
    run = three_problems(tmp_path / "run")
    folder = run.write()
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"0":1.5', '"0":NaN'))
    detail = unpack(embedded(page(folder))["blocks"][0])
    assert [lane["scores"] for lane in detail["lanes"]] == [[None], [0.5], [-2.0]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("t", "Infinity"), ("t", "1e999"), ("started", "NaN"), ("elapsed_s", "NaN"),
        ("num_sampled_tokens", "1" + "0" * 400),
    ],
)  # fmt: skip
def test_a_line_with_a_number_that_cannot_be_is_a_damaged_one(
    field: str, value: str, tmp_path: Path
) -> None:
    folder = three_problems(tmp_path / "run").write()
    journal = folder / "journal.jsonl"
    first, *lines = journal.read_text().splitlines()
    bad = [re.sub(rf'"{field}":[-0-9.e]+', f'"{field}":{value}', line) for line in lines]
    assert bad != lines
    journal.write_text("\n".join([first, *bad]) + "\n")
    assert "could not be read" in json.dumps(embedded(page(folder)))


def test_long_integers_keep_every_digit(tmp_path: Path) -> None:
    large = 12345678901234567890
    run = RunBuilder(tmp_path / "run", [("a", "?", 4)])
    run.plays("a", (large, large), large)
    row = embedded(page(run.write()))["problems"][0]["r"][0]
    assert (row["a"], row["v"]) == (str(large), [[str(large), 2]])


def test_when_room_is_short_wrong_answers_keep_their_texts(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "RAW_BUDGET", 1)
    shown = embedded(page(finished))
    told = [
        unpack(block)["lanes"][0]["steps"] is not None and unpack(block)["prompt"] is not None
        for block in shown["blocks"]
    ]
    assert told == [False, True, False]
    assert all(lane["line"] for block in shown["blocks"] for lane in unpack(block)["lanes"])


def test_a_problem_keeps_those_that_went_on(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = unpack(embedded(page(finished))["blocks"][0])["lanes"]
    lengths = [len(json.dumps(lane["steps"], ensure_ascii=False)) for lane in whole]
    monkeypatch.setattr(details, "_PROBLEM_BUDGET", lengths[0] + lengths[1])
    lanes = unpack(embedded(page(finished))["blocks"][0])["lanes"]
    assert [lane["steps"] is not None for lane in lanes] == [True, True, False]


def test_pages_that_did_not_change_are_packed_once(finished: Path) -> None:
    packer, source = Details(), RunSource(finished)
    first = packer.pack([source], source.problems)
    (finished / "journal.jsonl").unlink()
    assert packer.pack([source], source.problems) == first


def test_nothing_recorded_and_not_begun(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [("a", "?", 4), ("b", "?", None)])
    run.start("a")
    shown = embedded(page(run.write(ended=False)))
    assert [problem["r"] for problem in shown["problems"]] == [[{"open": 1, "b": 0}], [None]]
    assert shown["runs"][0]["state"] == "not ended" and shown["runs"][0]["score"] is None
    (run.folder / "journal.jsonl").write_bytes(b"")
    assert embedded(page(run.folder))["runs"][0]["created"] is None


def test_two_runs_are_paired_over_what_both_have(tmp_path: Path) -> None:
    one = three_problems(tmp_path / "one")
    statements = {name: statement for name, statement, _ in one.problems}
    both = [("square", statements["square"], 9), ("product", statements["product"], 7)]
    other = RunBuilder(tmp_path / "other", both)
    other.plays("product", (7, 7), 7)
    other.plays("square", (9, 9), 9)
    shown = embedded(html(data([RunSource(one.write()), RunSource(other.write())])))
    assert [problem["id"] for problem in shown["problems"]] == ["product", "square"]
    compared = shown["compare"]
    assert (compared["shared"], compared["known"]) == (2, 2)
    accuracy = compared["rows"][0]
    assert (accuracy["name"], accuracy["means"]) == ("accuracy", [0.5, 1.0])
    assert accuracy["difference"] == [0.5, 0.0, 1.0] and not accuracy["clear"]
    degraded = compared["rows"][-1]
    assert degraded["means"] == [0.5, 0.0]


def test_a_report_is_written_whole_and_again(finished: Path) -> None:
    output = finished / "report.html"
    write_report([RunSource(finished)], output)
    before = output.read_bytes()
    write_report([RunSource(finished)], output)
    assert output.read_bytes() == before
