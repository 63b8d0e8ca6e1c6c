"""The run folder: a run's files, from which another process can resume it.

    config.json     the resolved config
    command.json    where the answers go, and of what it is a shard
    problems.csv    the problems file as it was (or problems.jsonl)
    journal.jsonl   every event
    answers.csv     the answers, also written to the output path
    summary.json    the numbers
    tokenizer.json  of a GGUF file, so that the report can show what was written
    report.html     journal and summary as a page (solver/report)

Existing files are overwritten only on request: a new run needs its own folder and output path, and a
resumed run must have the same problems and config.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from solver.config import SolverConfig
from solver.errors import ConfigError, InputError
from solver.files.jsonl import repair
from solver.files.problems import (
    EVERY_PROBLEM,
    Selection,
    load_problems,
    problem_lines,
    problems_copy,
    read_problems,
    require_run_folder,
    write_answers,
    write_problems,
)
from solver.files.rows import kind_of
from solver.files.shards import Shard
from solver.files.whole import write_whole
from solver.journal.events import RunStarted, Solved
from solver.journal.history import RunHistory
from solver.journal.reader import JournalReader
from solver.journal.summary import Summary
from solver.journal.writer import JournalWriter
from solver.runs.settings import differing_key
from solver.types import Problem

_MAY_CHANGE = {"budget": {"time_limit_s"}}  # a resumed run has its own time


@dataclass(frozen=True, slots=True)
class ShardOf:
    """That a run is part `place` of `of` of the problems whose lines have this sha256 (hex)."""

    place: int
    of: int
    problems_sha256: str

    @classmethod
    def of_problems(cls, shard: Shard, problems: Sequence[Problem]) -> ShardOf:
        """`shard` of `problems`, which are those of all shards together."""
        digest = sha256(problem_lines(problems).encode()).hexdigest()
        return cls(shard.place, shard.of, digest)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """An open run: its folder (locked until `close`), problems and config, and its earlier events."""

    path: Path
    config: SolverConfig
    problems: tuple[Problem, ...]
    problems_sha256: str
    output: Path
    journal: JournalWriter
    history: RunHistory = field(default_factory=RunHistory)
    torn_bytes: int = 0

    @property
    def solved(self) -> dict[str, Solved]:
        """The answers that the journal holds, by problem."""
        return {one.id: one.solved for one in self.history.problems.values() if one.solved}

    @property
    def finished(self) -> bool:
        """Whether every problem had its answer when the run was opened."""
        return self.solved.keys() >= {problem.id for problem in self.problems}

    def write_results(self, answers: Iterable[Solved], summary: Summary) -> None:
        """Write the answers, here and to the output path, and the summary; each whole."""
        by_id = {event.problem_id: event.answer for event in answers}
        rows = [(problem.id, by_id[problem.id]) for problem in self.problems]
        write_answers(self.path / "answers.csv", rows)
        write_answers(self.output, rows)
        write_whole(self.path / "summary.json", summary.model_dump_json(indent=2) + "\n")

    def close(self) -> None:
        """Close the journal and release the lock."""
        self.journal.close()

    def discard_if_blank(self) -> None:
        """Remove the folder if no event was recorded in it: there is nothing to resume.

        The log of a server that did not start stays, to be read.
        """
        logged = any(log.stat().st_size for log in self.path.glob("*.log"))
        if not logged and (self.path / "journal.jsonl").stat().st_size == 0:
            shutil.rmtree(self.path)


def create_run(
    folder: Path | None,
    config: SolverConfig,
    problems_file: Path,
    output: Path,
    *,
    force: bool,
    on_failure: Callable[[str], None],
    selection: Selection = EVERY_PROBLEM,
) -> RunFolder:
    """Make a new run folder (`runs/<id>` if `folder` is None) after every check that needs no model.

    `on_failure` is also told, in one line, which known answers cannot be scored.
    """
    file = read_problems(problems_file, config.answer, selection)
    problems = file.problems
    check_output(output, problems_file, replaceable=force)
    origin = None
    if selection.shard is not None:
        whole = read_problems(problems_file, config.answer, replace(selection, shard=None))
        origin = ShardOf.of_problems(selection.shard, whole.problems)

    def copied(folder: Path) -> Path:
        return _copied(problems_file, problems, folder)

    run = new_run(folder, config, problems, output, copied, on_failure=on_failure, shard=origin)
    if file.note is not None:
        on_failure(file.note)
    return run


def new_run(
    folder: Path | None,
    config: SolverConfig,
    problems: Sequence[Problem],
    output: Path,
    copied: Callable[[Path], Path],
    *,
    on_failure: Callable[[str], None],
    shard: ShardOf | None = None,
) -> RunFolder:
    """A new run folder with an empty journal; `copied` writes the problems there and returns the file."""
    folder = folder or _new_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(
                f"the run folder {folder} is not empty; choose another or use --resume {folder}"
            )
        copy = copied(folder)
    except OSError as error:
        raise InputError(f"cannot make the run folder {folder}: {error.strerror}") from None
    output = output.absolute()
    command: dict[str, object] = {"output": str(output)}
    if shard is not None:
        command["shard"] = asdict(shard)
    write_whole(folder / "config.json", config.model_dump_json(indent=2) + "\n")
    write_whole(folder / "command.json", json.dumps(command) + "\n")
    journal = JournalWriter(folder / "journal.jsonl", on_failure)
    return RunFolder(folder, config, tuple(problems), _digest(copy), output, journal)


def open_run(
    folder: Path,
    reconfigure: Callable[[SolverConfig], SolverConfig],
    problems_file: Path | None,
    output: Path | None,
    *,
    force: bool,
    on_failure: Callable[[str], None],
    selection: Selection = EVERY_PROBLEM,
) -> RunFolder:
    """Open a run to resume it; `reconfigure` applies the flags of this command to its config.

    Refuses another problems file or config. Without `output` the answers go to the run's own path.
    """
    config, intended, copy = read_run(folder)
    digest = _digest(copy)
    if problems_file is not None:
        given = selection.of(read_problems(problems_file, config.answer).problems)
        if given != load_problems(copy):
            raise InputError(f"{problems_file} is not the problems file of {folder}; leave it out")
    wanted = reconfigure(config)
    if key := differing_key(comparable(config), comparable(wanted)):
        raise ConfigError(
            f"{key} differs from the config of {folder}; leave it out, or start a new run"
        )
    journal = JournalWriter(folder / "journal.jsonl", on_failure)
    with contextlib.ExitStack() as closing:
        closing.callback(journal.close)
        history, torn_bytes = read_history(folder / "journal.jsonl")
        repair(folder / "journal.jsonl")
        _check_start(history.start, config, digest, folder)
        output = output or intended
        # Answers that this run wrote before may be replaced; any other file may not.
        ours = _same_content(output, folder / "answers.csv")
        check_output(output, problems_file or copy, replaceable=force or ours)
        closing.pop_all()
    return RunFolder(
        folder,
        wanted,
        tuple(load_problems(copy)),
        digest,
        output,
        journal,
        history,
        torn_bytes,
    )


def _new_folder() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{stamp}-{secrets.token_hex(2)}"


def _copied(problems_file: Path, problems: list[Problem], folder: Path) -> Path:
    """The run's copy of its problems: the file as it was if it says just that, else JSON lines."""
    kind = kind_of(problems_file)
    if kind in ("csv", "jsonl") and problems_file.suffix.lower() != ".gz":
        copy = folder / f"problems.{kind}"
        shutil.copyfile(problems_file, copy)
        if load_problems(copy) == problems:
            return copy
        copy.unlink()
    copy = folder / "problems.jsonl"
    write_problems(copy, problems)
    return copy


def check_output(output: Path, problems_file: Path | None, *, replaceable: bool) -> None:
    """Raise `InputError` unless answers can be written to `output`, which is not the problems file."""
    if output.is_dir():
        raise InputError(f"{output} is a folder; give --output the name of a file")
    if problems_file is not None and output.exists() and output.samefile(problems_file):
        raise InputError(f"{output} is the problems file; give --output another name")
    if output.exists() and not replaceable:
        raise InputError(f"{output} exists; use --force to replace it, or --output for another")
    if not output.parent.is_dir():
        raise InputError(f"cannot write {output}: there is no folder {output.parent}")
    probe = output.with_name(f".{output.name}.{secrets.token_hex(4)}.probe")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from None


def read_run(folder: Path) -> tuple[SolverConfig, Path, Path]:
    """Its config, where its answers go, and its copy of the problems. Raises `InputError`."""
    require_run_folder(folder)
    try:
        config = SolverConfig.model_validate_json((folder / "config.json").read_bytes())
        intended = Path(json.loads((folder / "command.json").read_bytes())["output"])
        return config, intended, problems_copy(folder)
    except OSError as error:
        raise InputError(f"cannot read the run in {folder}: {error.strerror}") from None
    except (ValidationError, ValueError, LookupError, TypeError):
        raise InputError(
            f"{folder} holds no complete run of this version; start a new one"
        ) from None


def comparable(config: SolverConfig) -> SolverConfig:
    """The config without what may change within a run."""
    return SolverConfig.model_validate(config.model_dump(exclude=_MAY_CHANGE))


def read_shard(folder: Path) -> ShardOf | None:
    """Of what the run in `folder` is a shard, if it is one. Raises `InputError`."""
    try:
        shard = json.loads((folder / "command.json").read_bytes()).get("shard")
        return None if shard is None else ShardOf(**shard)
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(f"{folder}/command.json cannot be read; start a new run") from None


def read_history(journal: Path) -> tuple[RunHistory, int]:
    """What was solved, and the bytes of a torn last line; the rest begins anew and is not kept."""
    reader, history = JournalReader(journal), RunHistory()
    for event, _ in reader.events():
        problem = history.apply(event)
        if problem is not None and problem.solved is not None:
            problem.trajectories.clear()
    history.problems = {name: one for name, one in history.problems.items() if one.solved}
    return history, reader.torn_bytes


def _check_start(first: RunStarted | None, config: SolverConfig, digest: str, folder: Path) -> None:
    if first is None:
        return
    if first.problems_sha256 != digest:
        raise InputError(f"the problems in {folder} were changed after its run began; start anew")
    if key := differing_key(comparable(first.config), comparable(config)):
        raise ConfigError(f"{key} in {folder} was changed after its run began; start anew")


def _same_content(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
