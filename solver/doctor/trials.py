"""Checks that try something: a kernel, the isolation, a tokenizer, an adapter, vLLM's flags."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from sandbox.isolation import Isolation
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.result import ExecutionResult, ExecutionStatus
from solver.adapter.fingerprint import read_config
from solver.cli.python import python
from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.doctor.finding import Finding, fail, ok, warn
from solver.engines.vllm.attached import server_url
from solver.engines.vllm.command import PROGRAM, Recipe
from solver.errors import ConfigError, ModelError
from solver.journal.events import Solved
from solver.scorers import Need, find_scorer
from solver.scorers.folders import adapter_folder, last_check_folder, reward_folder
from solver.types import DegradationKind, Problem, ProblemBudget

_KERNEL_S = 60.0
_FLAGS_S = 240.0  # importing vLLM from a network disk takes minutes
_SERVER_S = 5.0
_no_proxy = build_opener(ProxyHandler({}))  # as the engine asks
_SOLVE_S = 60.0
_BROKEN = (
    DegradationKind.FAILED,
    DegradationKind.TRAJECTORIES_FAILED,
    DegradationKind.SCORER_FAILED,
)
# With this flag the parser refuses every command line, so that nothing is started; any other error that
# it reports is about our flags.
_REFUSED = "--this-flag-is-the-doctors"
_CLI = f"check it with {python()} -m sandbox check"


def kernel(limits: Limits) -> Finding:
    """Start a kernel and have it add 1 and 1."""

    async def add() -> ExecutionResult:
        alone = limits.model_copy(update={"spares": 0})
        async with KernelPool(alone) as pool, pool.lease() as sandbox:
            return await sandbox.execute("print(1 + 1)", _KERNEL_S)

    began = time.monotonic()
    result = asyncio.run(add())
    if result.status is ExecutionStatus.OK and result.stdout.strip() == "2":
        return ok("kernel", f"1 + 1 in {time.monotonic() - began:.1f} s, start-up included")
    return fail("kernel", f"{result.status}: {result.error or result.stderr[-200:]}", _CLI)


def isolation(held: Isolation, required: Sequence[str]) -> Finding:
    """Which isolation layers work here, against those that the config requires."""
    lacking = [layer for layer in required if layer not in held.layers]
    if lacking:
        return fail(
            "isolation",
            f"{held} ({held.level}); without {', '.join(lacking)}",
            "take them out of sandbox.require, or use a machine that has them",
        )
    if held.level in ("L3", "L2"):
        return ok("isolation", f"{held} ({held.level})")
    return warn("isolation", f"{held} ({held.level})", "docs/sandbox.md says what is missing")


def tokenizer(config: SolverConfig, folder: Path) -> Finding:
    """Open the dialect as a run would: tokenizer and chat template, or the harmony vocabulary."""
    from solver.build import open_dialect

    open_dialect(config, folder)
    what = "harmony vocabulary" if config.model.dialect == "harmony" else "chat template"
    return ok("tokenizer", f"loads, with its {what}")


def scorer(config: SolverConfig, folder: Path, *, on_vllm: bool) -> Finding:
    """The adapter or reward model that the scorer needs, against the model."""
    name = config.prune.scorer
    needs = find_scorer(name).needs
    if Need.REWARD_MODEL in needs:
        read_config(reward_folder(config))
        return ok("scorer", f"{name}: its model is there")
    if Need.ADAPTER not in needs:
        return ok("scorer", f"{name}: needs no adapter")
    from solver.adapter.folder import load_adapter

    where = adapter_folder(config)
    model, marks = config.model, [check.mark for check in config.prune.checks]
    spec = load_adapter(where, folder, marks=marks, dialect=model.dialect, prompt=model.prompt).spec
    if Need.COMBINER in needs and spec.combiner is None:
        raise ModelError(f"the adapter {where} has no combiner: use the scorer stop")
    if Need.STATES in needs and spec.probe is None:
        raise ModelError(f"the adapter {where} has no probe: use the scorer stop")
    if Need.STATES in needs and on_vllm:
        return fail("scorer", f"vLLM tells {name} no hidden states", "use the scorer stop")
    if on_vllm and "stop" not in entry_points(group="vllm.general_plugins").names:
        return fail(
            "scorer", "vLLM does not know our plugin", "install stop-solver again beside it"
        )
    known = " and ".join(map(str, marks))
    return ok("scorer", f"{name}: the adapter fits the model, mark {known}")


def last_check(config: SolverConfig, folder: Path) -> Finding:
    """The adapter of the last check, against the model."""
    from solver.adapter.folder import load_adapter

    model = config.model
    where = last_check_folder(config)
    load_adapter(where, folder, at_end=True, dialect=model.dialect, prompt=model.prompt)
    return ok("last check", "its adapter fits the model")


def vllm_flags(config: SolverConfig, folder: Path, *, on_cpu: bool) -> Finding:
    """Check the flags of a server with vLLM's own parser; nothing is started."""
    stop_flags: Sequence[str] = ()
    if Need.ADAPTER in find_scorer(config.prune.scorer).needs:
        from solver.adapter.vllm.serving import server_flags

        stop_flags = server_flags(adapter_folder(config), folder)
    recipe = Recipe(
        folder,
        config.model,
        config.vllm,
        settings=read_config(folder),
        on_cpu=on_cpu,
        environment=dict(os.environ),
        stop_flags=tuple(stop_flags),
    )
    command = recipe.command(1, "model", recipe.memory)
    return judge_flags(command.argv, command.environment, PROGRAM)


def judge_flags(
    argv: Sequence[str], environment: object = None, program: Sequence[str] = ()
) -> Finding:
    """Run the command with an added unknown flag, so that it only parses, and judge its error."""
    env = dict(environment) if isinstance(environment, dict) else None
    try:
        done = subprocess.run(
            [*argv, _REFUSED], capture_output=True, text=True, timeout=_FLAGS_S, env=env
        )
    except subprocess.TimeoutExpired:
        return warn("vllm", f"no answer in {_FLAGS_S:.0f} s", "try again: the first import is slow")
    said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
    complaint = said.partition("error: ")[2]
    if complaint == f"unrecognized arguments: {_REFUSED}":
        return ok("vllm", f"takes our {len(argv) - len(program)} words of flags")
    if complaint:
        refused = complaint.replace(f" {_REFUSED}", "")
        return fail(
            "vllm", refused[:300], "correct vllm.args, or install the range of pyproject.toml"
        )
    return fail("vllm", f"does not start: {said[:300]}", f"import it by hand: {python()} -m vllm")


def servers(urls: Sequence[str]) -> Finding:
    """Whether the running servers answer."""
    for url in urls:
        try:
            with _no_proxy.open(f"{server_url(url)}/health", timeout=_SERVER_S):
                pass
        except (ConfigError, URLError, OSError, ValueError) as error:
            return fail("vllm", f"{url}: {error}", "start the server, or correct vllm.servers")
    return ok("vllm", f"{len(urls)} running servers answer")


def deep(config: SolverConfig) -> Finding:
    """Load the model, or start its server, and solve one small problem with two trajectories.

    Raises what a run would end with. It takes as long as loading, and a minute at most.
    """
    small = config.model_copy(
        update={
            "prune": config.prune.model_copy(update={"launch": 2, "keep": 1, "stages": None}),
            "budget": config.budget.model_copy(update={"time_limit_s": None}),
            "record": "run",
            "record_marks": (),
        }
    )
    began = time.monotonic()
    solved = asyncio.run(_solve(small))
    took = f"{solved.sampled_tokens} tokens in {time.monotonic() - began:.0f} s, loading included"
    broken = [d.detail for d in solved.degradations if d.kind in _BROKEN]
    if broken or not solved.sampled_tokens:
        return fail("solve", "; ".join(broken)[:300] or "nothing was sampled", "mend that first")
    if not solved.num_votes:
        return warn(
            "solve", f"no answer to 1 + 1 after {took}", "look at a run with --set record=full"
        )
    return ok("solve", f"1 + 1 is {solved.answer}: {took}")


async def _solve(config: SolverConfig) -> Solved:
    from solver.build import services
    from solver.solving.session import answer_problem

    began = MonotonicClock().now()
    async with services(
        config, record=lambda _: None, started_at=began, stopping=asyncio.Event()
    ) as opened:
        budget = ProblemBudget(_SOLVE_S, _SOLVE_S / 4, MonotonicClock().now() + _SOLVE_S)
        return await answer_problem(Problem("doctor", "What is 1 + 1?"), budget, opened)
