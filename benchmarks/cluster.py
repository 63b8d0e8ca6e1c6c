"""What a cluster of one machine gains, and what its driver can take: python -m benchmarks.cluster [PART...]

    collect   the same problems on 1 actor and one core, and on 2 actors and two cores, in turns; the ratio
              of their times
    driver    scripted actors in this process: events a second and memory, for 1 to 256 of them
    ray       scripted actors in processes of Ray's: batches and events a second that come through it

The driver's own work is reading events, keeping the run's state and writing the journal; `driver` measures
that alone, `ray` adds Ray's transport. Start-up of actors is given by itself, and is not in any ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console

from solver.cli.progress import WorkProgress
from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.distributed.cluster import RayActor, crew
from solver.distributed.crew import Crew
from solver.distributed.hands import LOCAL, Hands
from solver.distributed.session import Desk, run_session
from solver.distributed.tasks import Batch, Task
from solver.distributed.worker import Hello
from solver.journal.events import Checked, Ended, Event, ProblemStarted, RunStarted, Sampled, Solved
from solver.journal.history import RunHistory
from solver.journal.writer import JournalWriter, journal_line
from solver.runs.progress import Progress
from solver.stop.commands.sampling import Job, make_job, problems_of
from solver.stop.rollouts.collect import collect
from solver.stop.rollouts.remote import sample_remotely
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.rollouts.sample import SamplingPlan, Unit
from solver.types import Problem, PruneReason, StopReason

SILENT = WorkProgress(quiet=True)
TRAJECTORIES, REQUESTS, TOKENS, BATCHES = 24, 10, 8, 10
EVENTS = 1 + REQUESTS * TRAJECTORIES + 1 + TRAJECTORIES + 1  # of a problem, its answer included
MARK = "@"  # stands for the problem's id in a template


async def collect_once(job: Job, problems: Sequence[Problem], num: int) -> tuple[float, float]:
    """Seconds until all of `num` actors were open, and seconds of the collection."""
    began = time.perf_counter()
    async with crew(job.config, Hands(LOCAL, num, 0), print) as (actors, _):
        await actors.everyone()
        opened = time.perf_counter()

        async def sampler(
            units: Sequence[Unit], plan: SamplingPlan, on_done: Callable[[ProblemRollouts], None]
        ) -> None:
            await sample_remotely(units, plan, actors, on_done, SILENT)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rollouts.jsonl"
            await collect(problems, job.plan, job.header, sampler, path, SILENT)
        return opened - began, time.perf_counter() - opened


def measure_collect(arguments: argparse.Namespace) -> None:
    problems = problems_of(None, "stop", arguments.num, 0, ("stop",), None)
    job = make_job("embedded", None, ["model.threads=1"], 0, 16, None, 1, 64, None)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two actors need two cores")
    ratios = []
    for number in range(arguments.rounds):
        seconds = {}
        for num in (1, 2) if number % 2 == 0 else (2, 1):
            # Inherited: of actors, their kernels and Ray as well.
            os.sched_setaffinity(0, cores[:num])
            start, seconds[num] = asyncio.run(collect_once(job, problems, num))
            print(
                f"{num} actors: started in {start:.1f} s, {len(problems)} problems in {seconds[num]:.1f} s"
            )
        ratios.append(seconds[1] / seconds[2])
    print(f"2 actors are {median(ratios):.2f} times as fast as 1 (median of {len(ratios)} rounds)")


def template() -> list[bytes]:
    """What is told of one problem, a batch of lines each."""
    where = {"problem_id": MARK}
    events: list[Event] = [
        ProblemStarted(**where, prompt_token_ids=[1] * 64, allotted_s=None, launch=24, keep=8)
    ]
    for _ in range(REQUESTS):
        for index in range(TRAJECTORIES):
            events.append(
                Sampled(
                    **where,
                    index=index,
                    token_ids=[7] * TOKENS,
                    logprobs=[-0.123456] * TOKENS,
                    reused_tokens=64,
                    encoded_tokens=1,
                    started=0.0,
                )
            )
    events.append(
        Checked(
            **where,
            kept=list(range(TRAJECTORIES)),
            dropped=[],
            scores=dict.fromkeys(range(TRAJECTORIES), 0.5),
            method="stop",
            reason=PruneReason.SCORED,
            started=0.0,
        )
    )
    for index in range(TRAJECTORIES):
        sampled = REQUESTS * TOKENS
        events.append(
            Ended(
                **where,
                index=index,
                stop_reason=StopReason.ANSWERED,
                num_sampled_tokens=sampled,
                answer=7,
            )
        )
    size = -(-len(events) // BATCHES)
    return [
        b"".join(map(journal_line, events[first : first + size]))
        for first in range(0, len(events), size)
    ]


def answer(problem_id: str) -> Solved:
    return Solved(
        problem_id=problem_id,
        answer=7,
        votes={7: TRAJECTORIES},
        num_votes=TRAJECTORIES,
        margin=TRAJECTORIES,
        tied=False,
        decided_early=False,
        elapsed_s=1.0,
        sampled_tokens=TRAJECTORIES * REQUESTS * TOKENS,
        reused_tokens=0,
        encoded_tokens=0,
    )


class Talker:
    """An actor that tells of each problem what `template` says, as fast as it is heard."""

    def __init__(self) -> None:
        self._template = template()

    async def open(self) -> Hello:
        return Hello("here", os.getpid(), engine={}, isolation="none")

    async def serve(self, task: Task[Any]) -> AsyncGenerator[Batch, None]:
        problem: Any = task
        name = problem.problem.id
        for lines in self._template:
            yield Batch(lines.replace(MARK.encode(), name.encode()), REQUESTS)
            await asyncio.sleep(0)
        yield Batch(result=answer(name))

    async def stop(self) -> None:
        """Nothing to stop."""

    async def aclose(self) -> None:
        """Nothing to close."""

    async def end(self) -> None:
        """Nothing to end."""


async def listen(actors: Sequence[Any], num_problems: int) -> tuple[int, float, int]:
    """Events, seconds and the most memory (bytes) of a session on `actors`."""
    problems = [Problem(f"problem-{number:06}", "1+1?") for number in range(num_problems)]
    clock, config, history = MonotonicClock(), SolverConfig(), RunHistory()
    num_events = most = 0
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        journal = JournalWriter(Path(folder) / "journal.jsonl", print)
        began = clock.now()
        shown = Progress(
            problems,
            config,
            lambda: clock.now() - began,
            Console(quiet=True),
            history,
        )

        def record(event: Event) -> None:
            nonlocal num_events, most
            journal.record(event)
            shown.show(event)
            num_events += 1
            most = max(most, process.memory_info().rss)

        def append(lines: bytes, events: Sequence[Event]) -> None:
            nonlocal num_events
            journal.append(lines)
            for event in events:
                shown.show(event)
            num_events += len(events)

        opened = Crew(actors, lambda _: None, clock.now)
        await opened.first()
        record(RunStarted(created="", config=config, problem_ids=[], problems_sha256=""))
        desk = Desk(config, clock, began, history, record, append, shown.sampled, asyncio.Event())
        started = time.perf_counter()
        await run_session(problems, opened, desk, solved={})
        seconds = time.perf_counter() - started
        await opened.close()
        journal.close()
    return num_events, seconds, most


def measure_driver(arguments: argparse.Namespace) -> None:
    for num in (1, 16, 64, 256):
        gc.collect()
        before = psutil.Process().memory_info().rss
        events, seconds, most = asyncio.run(
            listen([Talker() for _ in range(num)], max(num, arguments.events // EVENTS))
        )
        print(
            f"{num:4} actors: {events:,} events in {seconds:.1f} s, {events / seconds:,.0f} a second,"
            f" {(most - before) / 1e6:.0f} MB more at most"
        )


def measure_ray(arguments: argparse.Namespace) -> None:
    import ray

    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    try:
        for num in (1, 2):
            actors = [
                RayActor(ray, ray.remote(Talker).options(num_cpus=1).remote()) for _ in range(num)
            ]
            events, seconds, _ = asyncio.run(listen(actors, arguments.events // EVENTS))
            batches = events / EVENTS * (BATCHES + 1)
            print(
                f"{num} actors of Ray: {events / seconds:,.0f} events a second in"
                f" {batches / seconds:,.0f} batches a second"
            )
    finally:
        ray.shutdown()


PARTS = {"collect": measure_collect, "driver": measure_driver, "ray": measure_ray}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--num", type=int, default=100, help="problems of collect")
    parser.add_argument("--rounds", type=int, default=1, help="of collect")
    parser.add_argument("--events", type=int, default=200_000, help="of driver and ray")
    arguments = parser.parse_args()
    for name in arguments.parts or PARTS:
        print(f"-- {name}")
        PARTS[name](arguments)


if __name__ == "__main__":
    main()
