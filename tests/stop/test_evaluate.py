"""Scoring saved rollouts as a run would score them, and the command from problems to pictures."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import lzma
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertForSequenceClassification

from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus, for_model, tells_failure
from solver.adapter.folder import load_adapter
from solver.adapter.gate import Head, StopGate
from solver.adapter.score import score_prefixes
from solver.config import ModelConfig
from solver.engines.loading import load_model
from solver.engines.transformers import TransformersEngine
from solver.errors import ConfigError
from solver.scorers import Need, find_scorer
from solver.scorers.calls import FAILED_CALLS
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.declaration import ComputedScorer
from solver.scorers.stop import StopScorer
from solver.stop.__main__ import main
from solver.stop.commands.sampling import make_job
from solver.stop.evaluation.evaluate import check_settings
from solver.stop.evaluation.published import read_published
from solver.stop.evaluation.scores import read_scores
from solver.stop.evaluation.scoring import score_at
from solver.stop.rollouts.file import read_rollouts
from solver.stop.rollouts.rollout import ProblemRollouts, Rollout, SavedTurn, with_known_calls
from solver.stop.rollouts.sample import SamplingPlan, sample_problem
from solver.types import Problem, StopReason
from tests.scorers.conftest import save_tiny_model, written
from tests.scorers.test_stop import COMBINER, MARK, saved
from tests.support import LoopClock, byte_tokenizer, run_virtual
from tests.support.rig import DIALECT, TOKENIZER, Rig, every, ids, says
from tests.support.units import save_units


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapter_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "stop"
    return saved(model_folder, folder, combiner=COMBINER, probe=Head(32))


def scripted_unit(stored: int = 12, *, candidates: bool = True) -> ProblemRollouts:
    tales = ["A sure plan." + says(7), "An unsure one" + says(1), says(7)]

    async def work() -> ProblemRollouts:
        told = {f"p#{i}": (9.0 - i, 0.5) for i in range(3) if candidates}
        rig = Rig(says=every(tales), logprobs={"p#0": -0.1}, candidates=told)
        problem = Problem("p", "1+1?", 7, {"kind": "tie"})
        plan, services = SamplingPlan(3, 12, stored=stored), rig.services()
        return await sample_problem(problem, 0, plan, services, asyncio.Semaphore(9))

    return run_virtual(work())


def save_scripted(path: Path, unit: ProblemRollouts, model: Path, stored: int) -> None:
    """The file of it, as sampled on `model` with trajectories of at most 80 tokens."""
    sampling = {"temperature": 1.0, "max_tokens": 80.0}
    save_units(path, [unit], model=str(model), launch=3, stored_tokens=stored, sampling=sampling)


async def test_prefixes_are_scored_over_the_engines_cache(
    model_folder: Path, adapter_folder: Path
) -> None:
    unit = await asyncio.to_thread(scripted_unit)
    async with TransformersEngine(
        load_model(ModelConfig(path=str(model_folder), device="cpu"))
    ) as engine:
        stop = await StopScorer.open(
            engine, adapter_folder, model_folder, marks=[MARK], dialect="fenced", prompt="bare"
        )
        scorers = {"confidence": ComputedScorer(CONFIDENCE), "stop": stop}
        done: list[None] = []
        [marked] = await score_at(
            [unit], 12, scorers, engine, LoopClock(), lambda: done.append(None)
        )
        before = engine.stats.scratch
        [again] = await score_at([unit], 12, {"stop": stop}, None, LoopClock())
        encoded = engine.stats.scratch - before
        assert engine.stats.paused_rows == 0
    assert len(done) == 1
    assert (marked.waiting, marked.right) == ([0, 1], [True, False])
    assert marked.scores["confidence"] == [pytest.approx(-0.1), pytest.approx(-1.0)]
    assert marked.scores["stop"] == pytest.approx(again.scores["stop"], abs=1e-4)
    assert encoded > 2 * 12, "without the cache every prefix is encoded"
    # over the cache: the last id of each prefix and the two [STOP] ids; and the handshake's prefix
    shake = len(written(0, "Let me count ").token_ids) + 2
    assert before == 2 * (1 + 2) + shake
    assert marked.seconds["stop"] > 0


def test_settings() -> None:
    check_settings(24, [24, 16], 8, [16, 32], 32)
    for settings, why in (
        ((24, [24], 25, [16], 32), "--keep must be from 1 to the launch of 24"),
        ((24, [24, 4], 8, [16], 32), "--keep must be from 1 to the launch of 4"),
        ((24, [32], 8, [16], 32), "there are 24 rollouts a problem, not 32"),
        ((24, [24], 8, [0], 32), "--marks are"),
        ((24, [24], 8, [33], 32), "cannot be cut at 33"),
    ):
        with pytest.raises(ConfigError, match=why):
            check_settings(*settings)  # type: ignore[arg-type]


def test_the_command(
    tmp_path: Path,
    model_folder: Path,
    adapter_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems = tmp_path / "p.csv"
    with problems.open("w", newline="") as file:
        rows = [["id", "problem", "answer", "kind"], ["a", "3+4?", 7, "x"], ["b", "1+1?", 2, "y"]]
        csv.writer(file).writerows(rows)
    reward = tmp_path / "reward"
    config = BertConfig(
        vocab_size=len(byte_tokenizer()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(reward)
    byte_tokenizer().save_pretrained(reward)
    rollouts = tmp_path / "rollouts.jsonl"
    shared = [
        "evaluate", "--model", str(model_folder), "--adapter", str(adapter_folder),
        "--reward-model", str(reward), "--keep", "2", "--keeps", "1,2,9", "--marks", "12,8",
        "--rollouts", str(rollouts), "--set", "model.prompt=bare", "--set", "model.device=cpu",
        "--set", "sampling.max_tokens=24", "--quiet",
    ]  # fmt: skip
    sampling = ["--problems", str(problems), "--launch", "4", "--seeds", "2"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*shared, *sampling, "--out", str(first)]) == 0
    report = (first / "README.md").read_text()
    assert "2 problems, 2 x 4 rollouts each" in report
    for method in ("none", "random", "similarity", "failed-tool-calls", "reward", "confidence",
                   "entropy", "deepconf", "probe", "stop", "stop+confidence", "oracle"):  # fmt: skip
        assert re.search(rf"\n\| {re.escape(method)} +\| ", report)
    assert "## Kind: x" in report
    with (first / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {(row["launch"], row["mark"], row["keep"]) for row in table} == {
        ("4", "8", "1"), ("4", "8", "2"), ("4", "12", "1"), ("4", "12", "2"),
    }  # fmt: skip
    assert all((first / f"{name}.png").stat().st_size for name in ("tokens", "roc", "calibration"))

    before = rollouts.read_bytes()
    assert main([*shared, "--out", str(second)]) == 0, "the saved rollouts are enough"
    assert rollouts.read_bytes() == before

    assert results(first) == results(second)
    capsys.readouterr()
    assert main([*shared, "--out", str(second), "--marks", "13"]) == 2
    assert "their first 12 tokens" in capsys.readouterr().err


def results(folder: Path) -> list[dict[str, str]]:
    """The table without the times."""
    with (folder / "table.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name != "check_seconds"}
            for row in csv.DictReader(file)
        ]


def test_published_rollouts_get_their_prompts_back(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems, rollouts = tmp_path / "p.csv", tmp_path / "x.rollouts.jsonl"
    problems.write_text("id,problem,answer\na,3+4?,7\nb,1+1?,2\n")
    sampling = [
        "collect", "--model", str(model_folder), "--launch", "3", "--mark", "8", "--whole",
        "--least-right", "0", "--most-right", "1", "--set", "model.prompt=bare", "--quiet",
        "--set", "model.device=cpu", "--set", "sampling.max_tokens=24",
        "--problems", str(problems), "--out", str(tmp_path / "x"),
    ]  # fmt: skip
    assert main(sampling) == 0
    public = tmp_path / "train.xz"
    assert main(["publish", str(rollouts), "--problems", str(problems), "--out", str(public)]) == 0
    tables = ["evaluate", "--published", str(public), "--out", str(tmp_path / "tables")]
    assert main(tables) == 2
    assert "holds no scores: `restore` its rollouts" in capsys.readouterr().err

    # another's copy of the problems: other ids, another order, other spaces
    theirs, again = tmp_path / "theirs.csv", tmp_path / "again.rollouts.jsonl"
    theirs.write_text("id,problem,answer\n1,1+1?,2\n2,3+4?,7\n")
    restoring = ["restore", str(public), "--problems", str(theirs), "--model", str(model_folder)]
    assert main([*restoring, "--out", str(again)]) == 0
    header, units = read_rollouts(rollouts)
    same_header, same_units = read_rollouts(again)
    assert same_header == header
    for ours, unit in zip(same_units, units, strict=True):
        assert ours.prompt_token_ids == unit.prompt_token_ids != []
        assert [r.turns[0].token_ids for r in ours.rollouts] == [
            r.turns[0].token_ids for r in unit.rollouts
        ]

    assert main([*restoring, "--out", str(again)]) == 2
    assert "exists; --force replaces it" in capsys.readouterr().err
    assert main([*restoring, "--out", str(tmp_path / "again.jsonl")]) == 2
    assert "end it with .rollouts.jsonl" in capsys.readouterr().err
    theirs.write_text("id,problem,answer\n1,1+1?,2\n")
    assert main([*restoring, "--force", "--out", str(again)]) == 2
    assert "no problem has the statement of a (--some" in capsys.readouterr().err
    assert main([*restoring, "--some", "--force", "--out", str(again)]) == 0
    assert [unit.problem_id for unit in read_rollouts(again)[1]] == ["b"]
    theirs.write_text("id,problem,answer\n1,2+2?,4\n")
    assert main([*restoring, "--some", "--force", "--out", str(again)]) == 2
    assert "the statement of any of these rollouts" in capsys.readouterr().err
    assert [unit.problem_id for unit in read_rollouts(again)[1]] == ["b"], "nothing is lost"


def test_trainings_scores_and_what_is_published(
    tmp_path: Path,
    model_folder: Path,
    adapter_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems, rollouts = tmp_path / "p.csv", tmp_path / "rollouts.jsonl"
    problems.write_text("id,problem,answer\na,3+4?,7\nb,1+1?,2\n")
    other = saved(model_folder, tmp_path / "other", seed=3)
    sampling = [
        "evaluate", "--model", str(model_folder), "--keep", "2", "--keeps", "1", "--marks", "8,12",
        "--set", "model.prompt=bare", "--set", "model.device=cpu", "--set", "sampling.max_tokens=24",
        "--rollouts", str(rollouts), "--quiet",
    ]  # fmt: skip
    assert (
        main(
            [*sampling, "--problems", str(problems), "--launch", "4", "--out", str(tmp_path / "x")]
        )
        == 0
    )

    scores, first, again = tmp_path / "scores.jsonl", tmp_path / "first", tmp_path / "again"
    both = ["--adapter", str(adapter_folder), "--adapter", str(other)]
    scoring = [*sampling, *both, "--launches", "4,3", "--scores", str(scores)]
    assert main([*scoring, "--out", str(first)]) == 0
    assert "and 2 trainings" in (first / "README.md").read_text()
    assert {row["launch"] for row in results(first)} == {"3", "4"}
    lines = scores.read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 2 * 2, "problems, launches, marks, trainings"
    kept = read_scores(scores)
    one, two = (m for m in kept.at(4, 12) if m.problem_id == "a")
    assert (one.draw, two.draw) == (0, 1)
    assert one.scores["stop"] != two.scores["stop"]
    assert one.scores["similarity"] == two.scores["similarity"]
    [alone] = [m for m in kept.at(3, 12) if (m.problem_id, m.draw) == ("a", 0)]
    assert alone.scores["stop"] == one.scores["stop"][:3]
    assert alone.launch == 3

    # killed in the middle: the rest is scored again, with the same result
    scores.write_text("\n".join(lines[:-3]) + "\n")
    assert main([*scoring, "--out", str(again)]) == 0
    assert results(again) == results(first)
    # all is known: no model is needed
    monkeypatch.setattr("solver.stop.commands.evaluate.running", None)
    assert main([*scoring, "--out", str(again)]) == 0
    assert results(again) == results(first)
    assert main([*scoring, "--adapter", str(other), "--out", str(again)]) == 2
    assert "holds scores of other adapters" in capsys.readouterr().err
    assert main([*scoring, "--launch", "4", "--out", str(again)]) == 0, "as it is"
    for flags, why in (
        (["--launch", "3"], "--launch has no effect: "),
        (["--seeds", "2"], "--seeds has no effect: "),
        (["--set", "prune.launch=4"], "--set prune.launch has no effect here: use --launch"),
        (["--set", "seed=3"], "--set seed has no effect here: use --seed"),
    ):
        assert main([*scoring, *flags, "--out", str(again)]) == 2
        assert why in capsys.readouterr().err

    public = tmp_path / "test.jsonl.xz"
    publishing = ["publish", str(rollouts), "--scores", str(scores), "--out", str(public)]
    assert main([*publishing, "--problems", str(problems)]) == 0
    assert "2 problems" in capsys.readouterr().out
    found = read_published(public)
    assert found.statements["a"] == hashlib.sha256(b"3+4?").hexdigest()
    assert all(unit.prompt_token_ids == [] for unit in found.units)
    _, units = read_rollouts(rollouts)
    for ours, theirs in zip(found.units, units, strict=True):
        assert [r.answer for r in ours.rollouts] == [r.answer for r in theirs.rollouts]
        ids = [[t.token_ids for t in r.turns] for r in ours.rollouts]
        assert ids == [[t.token_ids for t in r.turns] for r in theirs.rollouts]
    assert str(model_folder.parent) not in lzma.decompress(public.read_bytes()).decode()
    tables = ["evaluate", "--published", str(public), "--keep", "2", "--keeps", "1"]
    assert main([*tables, "--marks", "8,12", "--out", str(tmp_path / "public")]) == 0
    assert results(tmp_path / "public") == results(first)
    assert main([*tables, *both, "--out", str(tmp_path / "public")]) == 2
    assert f"--adapter has no effect: {public} is compared as it is" in capsys.readouterr().err
    assert main([*tables, "--keeps", "0", "--out", str(tmp_path / "public")]) == 2
    assert "--keeps: whole numbers from 1 on" in capsys.readouterr().err
    assert main([*tables, "--out", str(problems)]) == 2
    assert "is a file: --out is the folder of the report" in capsys.readouterr().err
    assert main([*tables, "--marks", "9", "--out", str(tmp_path / "public")]) == 2
    assert "4 rollouts at mark 12, not 4 at 9" in capsys.readouterr().err
    staged = [*tables, "--marks", "8,12", "--out", str(tmp_path / "staged"), "--stages"]
    assert main([*staged, "8:3+12:2"]) == 0
    assert "| 8:3 + 12:2 |" in (tmp_path / "staged" / "README.md").read_text()
    for wrong, why in (
        ("8:3", None),
        ("8:2+12", "'8:2+12' are no stages; write mark:keep for each"),
        ("12:3+8:2", "marks must rise, but 8 follows 12"),
        ("8:9+12:2", "--stages keeps 9 of 4"),
        ("8:3+13:2", "--stages has mark 13: add it to --marks 8,12"),
    ):
        assert main([*staged, wrong]) == (2 if why else 0)
        assert (why or "") in capsys.readouterr().err
    whole = scores.read_text()
    scores.write_text(
        "".join(line for line in whole.splitlines(True) if '"problem_id":"b"' not in line)
    )
    assert main([*publishing, "--problems", str(problems)]) == 2
    assert "exists; --force replaces it" in capsys.readouterr().err
    publishing.append("--force")
    assert main([*publishing, "--problems", str(problems)]) == 2
    assert "(3 rollouts, mark 8), the first is 'b': let" in capsys.readouterr().err
    scores.write_text(whole.splitlines(True)[0])
    assert main([*publishing, "--problems", str(problems)]) == 2
    assert "nothing is scored yet" in capsys.readouterr().err
    scores.write_text("".join(whole.splitlines(True)[:-1]))  # a training lacks one mark of b
    assert main([*publishing, "--problems", str(problems)]) == 2
    assert "1 problems are not scored yet (" in capsys.readouterr().err
    transfer = ["transfer", f"sums:more={scores}", "--out", str(tmp_path / "half.md")]
    last = json.loads(whole.splitlines()[-1])
    assert main([*transfer, "--launch", str(len(last["ends"])), "--keep", "2", "--mark", "12"]) == 2
    assert (
        f"mark 12), the first is {last['problem_id']!r}: let `evaluate` go on"
        in capsys.readouterr().err
    )
    scores.write_text(whole)
    other_rollouts = tmp_path / "others.rollouts.jsonl"
    header, *rest = rollouts.read_text().splitlines(True)
    other_rollouts.write_text(header.replace('"seed":', '"seed":1', 1) + "".join(rest))
    assert main(["publish", str(other_rollouts), *publishing[2:], "--problems", str(problems)]) == 2
    assert "the scores are of other rollouts" in capsys.readouterr().err
    problems.write_text("id,problem,answer\na,3+4?,7\n")
    assert main([*publishing, "--problems", str(problems)]) == 2
    assert "no statement of b" in capsys.readouterr().err
    public.write_bytes(public.read_bytes()[:-9])
    assert main([*tables, "--out", str(tmp_path / "public")]) == 2
    assert "is not a file of `publish`, or it is damaged" in capsys.readouterr().err

    table = tmp_path / "transfer.md"
    transfer = ["transfer", f"sums:more={scores}", "--mark", "12", "--out", str(table)]
    assert main([*transfer, "--launch", "4", "--keep", "2"]) == 0
    assert main([*transfer, "--launch", "4", "--keep", "2"]) == 2
    assert "exists; --force replaces it" in capsys.readouterr().err
    transfer.append("--force")
    text = re.sub(" +", " ", table.read_text())
    for method in ("probe", "stop", "stop\\+confidence"):
        assert re.search(rf"\| sums \| more \| 2 \| {method} \| ", text)
    assert "| confidence |" not in text
    assert main([*transfer, "--launch", "9", "--keep", "2"]) == 2
    assert "has 3 rollouts at mark 8, " in capsys.readouterr().err
    twice = [*transfer[:1], f"a:b={scores}", f"a:b={scores}", *transfer[2:]]
    assert main([*twice, "--launch", "4", "--keep", "2"]) == 2
    assert "a:b is given twice" in capsys.readouterr().err
    assert main(["transfer", "sums", *transfer[2:]]) == 2
    assert "a test is TRAINED:TESTED=FILE" in capsys.readouterr().err


def test_what_was_trained_less_often_serves_again(
    tmp_path: Path, model_folder: Path, adapter_folder: Path
) -> None:
    """With two adapters and four last checks the fourth draw has the second adapter."""
    rollouts, scores = tmp_path / "r.jsonl", tmp_path / "s.jsonl"
    save_scripted(rollouts, scripted_unit(stored=80), model_folder, 80)
    pad = (TOKENIZER.pad_token_id,) * 2
    last = saved(model_folder, tmp_path / "last", seed=5, mark=None, stop_token_ids=pad)
    adapters = [adapter_folder, saved(model_folder, tmp_path / "other", seed=3)]
    flags = [x for folder in adapters for x in ("--adapter", str(folder))]
    flags += ["--last-check", str(last)] * 4
    comparing = ["evaluate", "--rollouts", str(rollouts), *flags, "--set", "model.device=cpu"]
    comparing += ["--keep", "2", "--marks", "8", "--scores", str(scores), "--quiet"]
    assert main([*comparing, "--out", str(tmp_path / "out")]) == 0
    by_draw = {m.draw: m.scores["stop"] for m in read_scores(scores).at(3, 8)}
    assert by_draw[0] == by_draw[2] != by_draw[1] == by_draw[3]


def test_rollouts_of_a_server_that_told_of_no_candidates(
    tmp_path: Path, model_folder: Path, adapter_folder: Path
) -> None:
    """They have no entropies: what needs them is left out, and the rest is compared."""
    rollouts, out = tmp_path / "r.jsonl", tmp_path / "out"
    save_scripted(rollouts, scripted_unit(candidates=False), model_folder, 12)
    flags = ["--adapter", str(adapter_folder), "--set", "model.device=cpu", "--keep", "2"]
    comparing = ["evaluate", "--rollouts", str(rollouts), *flags, "--marks", "8", "--quiet"]
    assert main([*comparing, "--out", str(out)]) == 0
    methods = {row["method"] for row in results(out)}
    assert {"stop", "confidence"} <= methods
    assert not {"entropy", "deepconf"} & methods


def test_sampling_asks_a_server_for_its_candidates() -> None:
    job = make_job("embedded", None, None, 0, 2, None, 1, 1, None)
    assert Need.CANDIDATES in find_scorer(job.config.prune.scorer).needs


def test_the_last_check_is_compared(
    tmp_path: Path,
    model_folder: Path,
    adapter_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unit, rollouts, scores = scripted_unit(stored=80), tmp_path / "r.jsonl", tmp_path / "s.jsonl"
    save_scripted(rollouts, unit, model_folder, 80)
    pad = (TOKENIZER.pad_token_id,) * 2
    checks = [
        saved(model_folder, tmp_path / f"last{seed}", seed=seed, mark=None, stop_token_ids=pad)
        for seed in (5, 6)
    ]
    shared = [
        "evaluate", "--model", str(model_folder), "--keep", "2", "--keeps", "1", "--marks", "8",
        "--adapter", str(adapter_folder), "--set", "model.prompt=bare", "--set", "model.device=cpu",
        "--rollouts", str(rollouts), "--quiet",
    ]  # fmt: skip
    out, both = tmp_path / "out", [x for check in checks for x in ("--last-check", str(check))]
    assert main([*shared, *both, "--scores", str(scores), "--out", str(out)]) == 0
    report = (out / "README.md").read_text()
    for way in ("majority", "weighted by stop", "confidence", "entropy", "verified",
                "best by verified", "oracle"):  # fmt: skip
        assert re.search(rf"\n\| 3, all +\| {way} +\| ", report)
        assert re.search(rf"\n\| 2, kept by stop +\| {way} +\| ", report)
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    wholes = [unit.whole(rollout) for rollout in unit.rollouts]
    for draw, check in enumerate(checks):
        adapter = load_adapter(check, model_folder, at_end=True).adapter
        with StopGate.attach(model, adapter) as gate:
            expected = score_prefixes(model, gate, [w.token_ids for w in wholes if w is not None])
        [marked] = [m for m in read_scores(scores).at(3, 8) if m.draw == draw]
        found = [end.evidence for end in marked.ends]
        assert [e.verified for e in found] == pytest.approx(expected.tolist(), abs=1e-4)
        assert [e.confidence for e in found] == [9.0, 8.0, 7.0]

    problems, public = tmp_path / "p.csv", tmp_path / "public.jsonl.xz"
    problems.write_text("id,problem,answer\np,1+1?,7\n")
    publishing = ["publish", str(rollouts), "--scores", str(scores), "--out", str(public)]
    assert main([*publishing, "--problems", str(problems)]) == 0
    tables = ["evaluate", "--published", str(public), "--keep", "2", "--keeps", "1"]
    assert main([*tables, "--out", str(tmp_path / "public")]) == 0
    votes = [(folder / "votes.csv").read_text() for folder in (out, tmp_path / "public")]
    assert votes[0] == votes[1]

    capsys.readouterr()
    more = ["--scores", str(scores), "--out", str(out)]
    assert main([*shared, "--last-check", str(checks[0]), *more]) == 2
    assert "holds scores of other last_checks" in capsys.readouterr().err
    assert main([*shared, "--last-check", str(adapter_folder), "--out", str(out)]) == 2
    assert "was trained for mark 12: the last check takes one" in capsys.readouterr().err
    short = tmp_path / "short.jsonl"
    save_scripted(short, scripted_unit(), model_folder, 12)
    assert main([*shared, "--rollouts", str(short), *both, "--out", str(out)]) == 2
    assert "holds the first 12 tokens of its rollouts: sample them with --whole" in (
        capsys.readouterr().err
    )


def test_rollouts_of_older_files_say_whether_a_call_failed() -> None:
    def turn(text: str, **fields: Any) -> SavedTurn:
        return SavedTurn(token_ids=[1], logprobs=[-1.0], appended=ids(text), **fields)

    turns = [turn("```output\n7\n```\n"), turn("```output\nNameError: name 'x'\n```\n"),
             turn("```output\n7\n```\n", failed=True), turn("")]  # fmt: skip
    rollout = Rollout(
        index=0, stop_reason=StopReason.ANSWERED, answer=1, num_sampled_tokens=4, turns=turns
    )
    unit = ProblemRollouts(
        problem_id="p", block=0, answer=1, prompt_token_ids=[1], rollouts=[rollout]
    )
    [known] = with_known_calls([unit], DIALECT.text)
    assert [t.failed for t in known.rollouts[0].turns] == [False, True, True, None]
    prefix = known.prefix(known.rollouts[0], 3)
    assert prefix is not None
    assert FAILED_CALLS.scores([prefix], 3) == [-1.0], "the last turn's call is not executed yet"


@pytest.mark.parametrize("status", [s for s in ExecutionStatus if s is not ExecutionStatus.OK])
def test_every_failure_is_told(status: ExecutionStatus) -> None:
    error = "ValueError" if status is ExecutionStatus.ERROR else ""
    result = ExecutionResult(
        status=status,
        stdout="Error rate: 3\n",
        stderr=f"{error}: bad" if error else "",
        error=error,
    )
    assert tells_failure(for_model(result, Limits()))
    fine = ExecutionResult(status=ExecutionStatus.OK, stdout="Error rate: 3\n[1, 2]\n")
    assert not tells_failure(for_model(fine, Limits()))
