"""`python -m solver.replay`: tables, configs, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from solver.config import SolverConfig, VoteConfig
from solver.journal.recorded_run import RecordedRun, load
from solver.replay.__main__ import main
from solver.replay.grid import grid, parse_sweep
from solver.replay.policy import Policy
from solver.replay.problem import NotRecorded
from solver.replay.speeds import Speeds
from solver.replay.sweep import Replay, draw_of, sweep
from solver.runs.settings import load_config
from solver.types import Check
from tests.replay.runs import Judge, full, recorded
from tests.support.rig import Rig, config, every, problem, says

SPEEDS = Speeds(0.01, 0.0, 0.0, 0.0, 0.0)
NUM = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three problems x six trajectories; the judge puts right ones first, at mark 10 and 20."""
    folder = tmp_path_factory.mktemp("replay") / "full"
    names = ["a", "b", "c"]
    tales, book = {}, {}
    for place, name in enumerate(names):
        answers = [5 if (i + place) % 3 == 0 else i for i in range(NUM)]
        tales |= every([says(answer, 15 + 5 * i) for i, answer in enumerate(answers)], name)
        book |= {f"{name}#{i}": float(answer == 5) for i, answer in enumerate(answers)}
    prune = {"launch": NUM, "keep": 2, "mark": 10, "scorer": "stop"}
    settings = SolverConfig.model_validate(full(prune=prune).model_dump() | {"record_marks": (20,)})
    judge = Judge("stop", book)
    rig = Rig(says=tales, settings=settings, scorer=judge)
    recorded(folder, rig, [problem(name, 5) for name in names], (judge,))
    return folder


@pytest.fixture(scope="module")
def recording(run: Path) -> RecordedRun:
    return load(run)


def replay_of(recording: RecordedRun) -> Replay:
    return Replay([recording], SPEEDS)


def test_a_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--sweep",
        "launch=3,6",
        "keep=2",
        "scorer=stop,random,none",
        "stop=off",
        "limit=none,1h",
    ]
    assert main([str(run), *words]) == 0
    out = capsys.readouterr().out
    assert "3 problems, 6 trajectories each" in out
    rows = [line for line in out.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 2 * 3 * 2
    assert "100.0 [100.0, 100.0]" in next(line for line in rows if "| 6      | 2    " in line)
    assert any("| * |" in line for line in rows)
    assert "lower bound" not in out  # an hour cuts nobody


def test_the_config_of_a_row_runs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "policy.json"
    words = ["--sweep", "keep=1,2", "limit=5m", "--config-for", "1", "--out", str(place)]
    assert main([str(run), *words]) == 0
    assert f"--config {place}" in capsys.readouterr().out
    made = load_config(config_file=place)
    assert (made.prune.keep, made.budget.time_limit_s, made.record) == (1, 300.0, "run")
    assert made.prune.launch == NUM and made.record_marks == ()
    assert main([str(run), *words]) == 2
    assert "exists" in capsys.readouterr().err


def test_a_weighted_row(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "policy.json"
    words = ["--sweep", "scorer=stop,none", "vote=majority,weighted", "stop=off"]
    assert main([str(run), *words, "--config-for", "2", "--out", str(place)]) == 0
    out = capsys.readouterr().out
    rows = [line.split("|")[7].strip() for line in out.splitlines() if line.startswith("| ")]
    assert rows == ["vote", "-" * 8, "majority", "weighted", "majority"]
    assert "1 combinations were left out: vote=weighted needs a scorer that gives chances" in out
    made = load_config(config_file=place)
    assert (made.prune.scorer, made.vote.rule, made.vote.stop) == ("stop", "weighted", "off")
    assert main([str(run), "--sweep", "scorer=stop,none"]) == 0
    assert "| vote " not in capsys.readouterr().out


def test_what_would_have_been(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--counterfactuals"]) == 0
    out = capsys.readouterr().out
    for title in ("Pruning 6 -> 2", "Scores at mark 10", "Votes over time", "Rules that stop"):
        assert title in out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "Missing argument"),
        (["nowhere"], "nowhere is not a run folder"),
        (["RUN", "launch=3"], "put --sweep before launch=3"),
        (["--sweep", "launch=3", "keep=1"], "give the folder of a run"),
        (["RUN", "--sweep", "kep=3"], "unknown key 'kep'; did you mean keep"),
        (["RUN", "--sweep", "zzz=3"], "there are launch, keep"),
        (["RUN", "--sweep", "keep"], "write key=value,value"),
        (["RUN", "--sweep", "keep=1,,2"], "write key=value,value"),
        (["RUN", "--sweep", "keep=1", "keep=2"], "names keep twice"),
        (["RUN", "--sweep", "keep=two"], "keep=two: expected a whole number"),
        (["RUN", "--sweep", "keep=0"], "from 1 on"),
        (["RUN", "--sweep", "keep=6", "launch=2"], "no policy to replay: keep must not be larger"),
        (["RUN", "--sweep", "launch=99", "scorer=none"], "launch=99: only 6 trajectories"),
        (["RUN", "--sweep", "scorer=best"], "scorer=best: there are similarity"),
        (["RUN", "--sweep", "stop=never"], "stop=never: there are posterior"),
        (["RUN", "--sweep", "vote=fair"], "vote=fair: there are majority, weighted"),
        (["RUN", "--sweep", "vote=weighted", "scorer=none"], "play: vote=weighted needs a scorer"),
        (["RUN", "--sweep", "limit=soon"], "'soon' is not a duration"),
        (["RUN", "--sweep", "stages=10:2+"], "'10:2+' are no stages; write mark:keep for each"),
        (["RUN", "--sweep", "stages=20:2+10:1"], "marks must rise, but 10 follows 20"),
        (["RUN", "--sweep", "limit=0s"], "longer than 0 seconds"),
        (["RUN", "--sweep", "mark=999", "scorer=confidence"], "larger than max_tokens"),
        (["RUN", "--sweep", "mark=15", "scorer=stop"], "its marks: 10, 20); record with --record"),
        (["RUN", "--sweep", "scorer=reward"], "reward did not score mark 10"),
        (["RUN", "--sweep", "scorer=entropy"], "told nothing"),
        (["RUN", "--config-for", "9"], "the table has 1 rows"),
        (["RUN", "--draws", "0"], "greater than or equal to 1"),
    ],
)
def test_one_line_for_every_mistake(
    words: list[str], why: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run) if word == "RUN" else word for word in words]) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1 and said.startswith("error: ")


def test_an_ordinary_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path / "run", Rig(says=every([says(1, 20)] * 4)), [problem()])
    assert main([str(tmp_path / "run")]) == 2
    assert "--record full" in capsys.readouterr().err


def test_a_torn_line_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("journal.jsonl", "problems.csv"):
        (copy / name).write_bytes((run / name).read_bytes())
    with (copy / "journal.jsonl").open("ab") as file:
        file.write(b'{"t":1.0,"typ')
    assert main([str(copy)]) == 0
    assert "was torn (13 bytes) and is left out" in capsys.readouterr().err


def test_the_grid() -> None:
    own = Policy.of(config())
    found = grid(parse_sweep(["launch=2,4", "keep=2,4", "scorer=confidence,none"]), own)
    kinds = [(p.launch, p.checks[0].keep, p.scorer) for p in found.policies]
    # nothing is kept or dropped without a scorer, so that is one row a launch
    assert kinds == [
        (2, 2, "confidence"),
        (2, 2, "none"),
        (4, 2, "confidence"),
        (4, 4, "none"),
        (4, 4, "confidence"),
    ]
    assert found.left_out == {"keep must not be larger than launch": 1}
    assert grid({}, own).policies == (own,)
    assert [p.limit_s for p in grid(parse_sweep(["limit=none,1h,30m"]), own).policies] == [
        None,
        3600.0,
        1800.0,
    ]


def test_a_weighted_vote_is_swept_where_there_are_chances() -> None:
    own = Policy.of(config())
    items = ["launch=4", "keep=2,3", "scorer=stop,confidence,none", "vote=majority,weighted"]
    found = grid(parse_sweep(items), own)
    kinds = [(p.scorer, p.checks[0].keep, p.vote.rule) for p in found.policies]
    assert kinds == [
        ("stop", 2, "majority"),
        ("stop", 2, "weighted"),
        ("confidence", 2, "majority"),
        ("none", 4, "majority"),
        ("stop", 3, "majority"),
        ("stop", 3, "weighted"),
        ("confidence", 3, "majority"),
    ]
    assert list(found.left_out.values()) == [3]
    # what is not swept is the run's own, and the rule is no exception
    weighted = Policy(4, (Check(10, 2),), "reward", VoteConfig(rule="weighted"))
    [played] = grid(parse_sweep(["scorer=reward,none"]), weighted).policies
    assert played == weighted


def test_subsets(recording: RecordedRun) -> None:
    one = replay_of(recording).problems[0][0]
    assert draw_of(one, 3, 0, 7).indices == (0, 1, 2)  # what a run would launch
    drawn = {draw_of(one, 3, number, 7).indices for number in range(1, 40)}
    assert len(drawn) > 8
    assert all(len(set(d)) == 3 and set(d) <= set(range(NUM)) for d in drawn)
    assert draw_of(one, 3, 5, 7) == draw_of(one, 3, 5, 7)
    assert draw_of(one, NUM, 3, 7).indices == tuple(range(NUM))
    with pytest.raises(NotRecorded, match="launch=7"):
        draw_of(one, 7, 0, 0)


def test_rows(recording: RecordedRun) -> None:
    own = Policy.of(recording.config)
    found = grid(parse_sweep(["launch=3,6", "keep=1,2", "scorer=stop,random,none"]), own)
    rows = sweep(replay_of(recording), found.policies, draws=10)
    again = sweep(replay_of(recording), found.policies, draws=10)
    assert rows == again  # seeded throughout
    best = next(
        r
        for r in rows
        if (r.policy.launch, r.policy.checks[0].keep, r.policy.scorer) == (6, 1, "stop")
    )
    assert best.accuracy is not None and best.accuracy.value == 1.0 and best.front
    for row in rows:
        assert row.accuracy is not None
        assert row.accuracy.low <= row.accuracy.value <= row.accuracy.high
        assert row.num_draws == (
            1 if row.policy.launch == NUM and row.policy.scorer != "random" else 10
        )
        beaten = any(
            other.accuracy.value >= row.accuracy.value and other.seconds.value < row.seconds.value
            for other in rows
            if other.accuracy is not None
        )
        assert not (row.front and beaten)
    small = next(r for r in rows if (r.policy.launch, r.policy.scorer) == (3, "none"))
    large = next(r for r in rows if (r.policy.launch, r.policy.scorer) == (6, "none"))
    assert small.tokens.value < large.tokens.value


def test_a_limit_cuts_and_says_so(
    recording: RecordedRun, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Policy.of(recording.config)
    slow = Replay([recording], Speeds(1.0, 0.0, 0.0, 0.0, 0.0))
    [tight, wide] = sweep(slow, grid(parse_sweep(["limit=60s,1h"]), own).policies)
    assert tight.in_time.value < 1 == wide.in_time.value
    assert tight.seconds.value <= 60
    assert main([str(run), "--sweep", "limit=0.1s"]) == 0
    assert "lower bound" in capsys.readouterr().out


def test_two_runs_of_the_same_problems_are_more_of_each(recording: RecordedRun) -> None:
    own = Policy.of(recording.config)
    [one] = sweep(Replay([recording], SPEEDS), [own])
    [two] = sweep(Replay([recording, recording], SPEEDS), [own])
    assert (one.accuracy, one.tokens, one.seconds) == (two.accuracy, two.tokens, two.seconds)
