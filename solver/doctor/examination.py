"""The checks that a config needs, in the order of the table; an exception in one becomes a finding."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

from sandbox.isolation import isolation
from sandbox.usage import available_memory
from solver.adapter.fingerprint import read_config
from solver.cli.extras import DISTRIBUTION, install
from solver.cli.leftovers import UNNEEDED
from solver.config import SolverConfig
from solver.doctor import facts, machine, packages, trials
from solver.doctor.finding import Finding, fail, gb, ok
from solver.doctor.memory import Need, need, num_gpus
from solver.doctor.weights import weights_bytes
from solver.embedded.paths import EMBEDDED, model_folder
from solver.errors import UserError
from solver.files.gguf import GgufFile, is_gguf
from solver.wheels.driver import cuda_of, driver_fault, oldest_driver
from solver.wheels.manifest import faults, read_manifest

_CUDA_SHARE = 0.8  # of the memory that the in-process engine uses for its cache
_SHOWN = 3

Check = Callable[[], Finding | Iterable[Finding]]


def examine(
    config: SolverConfig,
    wheelhouse: Path | None,
    on_check: Callable[[str], None] = lambda _: None,
    *,
    deep: bool = False,
) -> Iterator[Finding]:
    """Every finding about this machine for a run with `config`; `on_check` hears a check's name first.

    `deep` also loads the model and solves a small problem.
    """
    checks = [*_checks(config, wheelhouse)]
    if deep:
        checks.append(("solve", lambda: trials.deep(config)))
    for name, check in checks:
        on_check(name)
        yield from guarded(name, check)


def guarded(name: str, check: Check) -> list[Finding]:
    """The findings of a check; an exception becomes a finding instead of a traceback."""
    try:
        found = check()
        return [found] if isinstance(found, Finding) else list(found)
    except UserError as error:
        return [fail(name, "refused", str(error))]
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {said}"[:300]
        return [fail(name, "the check itself failed", reason)]


def _checks(config: SolverConfig, wheelhouse: Path | None) -> Iterator[tuple[str, Check]]:
    folder = model_folder(config.model.path)
    vllm_here = config.model.engine == "vllm" and not config.vllm.servers
    yield "python", _python
    yield "packages", lambda: _packages(config, vllm_here=vllm_here)
    yield "cpu", lambda: machine.cpu(facts.cores(), config.model.threads)
    yield "model", lambda: _model(config, folder)
    yield "memory", lambda: _memory(config, folder)
    if not config.vllm.servers:
        yield "gpu", lambda: _gpu(config, folder)
    yield "disk", lambda: _disk(config)
    yield "ports", lambda: machine.ports(facts.loopback_trouble(), facts.kaggle_port_taken())
    yield "isolation", lambda: trials.isolation(isolation(), config.sandbox.require)
    yield "kernel", lambda: trials.kernel(config.sandbox)
    yield "tokenizer", lambda: trials.tokenizer(config, folder)
    yield "scorer", lambda: trials.scorer(config, folder, on_vllm=vllm_here)
    if config.vote.rule == "verified":
        yield "last check", lambda: trials.last_check(config, folder)
    if vllm_here:
        yield "vllm", lambda: _vllm(config, folder)
    elif config.vllm.servers:
        yield "vllm", lambda: trials.servers(config.vllm.servers)
    if wheelhouse is not None:
        yield (
            "wheels",
            lambda: wheels(
                wheelhouse,
                running=platform.python_version(),
                with_vllm=vllm_here,
                driver=facts.driver(),
            ),
        )


def wheels(
    folder: Path, running: str, *, with_vllm: bool = False, driver: str | None = None
) -> Finding:
    """A wheelhouse against its manifest; `running` is the Python that would install it.

    `with_vllm`: the config starts a server, so vLLM must be among them. `driver` is this machine's.
    """
    manifest = read_manifest(folder)
    if found := faults(folder, manifest):
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return fail("wheels", "; ".join(found[:_SHOWN]) + more, "make the wheelhouse again")
    if with_vllm and not any(wheel.name.startswith("vllm") for wheel in manifest.wheels):
        return fail("wheels", "no vllm among them", "make the wheelhouse with --extra vllm")
    cuda = cuda_of((wheel.name, wheel.version) for wheel in manifest.wheels)
    if fault := driver_fault(driver, cuda):
        return fail("wheels", fault, "make the wheelhouse with --constraint FILE of older versions")
    size = gb(sum(wheel.size for wheel in manifest.wheels))
    return ok(
        "wheels",
        f"{len(manifest.wheels)} wheels, {size}, whole, for Python {manifest.python}"
        + ("" if running.startswith(f"{manifest.python}.") else f" (this is {running})")
        + (f", driver {needed} or newer" if (needed := oldest_driver(cuda)) else ""),
    )


def _python() -> Finding:
    return packages.python(platform.python_version(), metadata(DISTRIBUTION)["Requires-Python"])


def _packages(config: SolverConfig, *, vllm_here: bool) -> list[Finding]:
    extras = ["vllm"] if vllm_here else []
    if config.model.dialect == "harmony" and not vllm_here:  # vLLM brings its own
        extras.append("harmony")
    if is_gguf(model_folder(config.model.path)):
        extras.append("gguf")
    declared = metadata(DISTRIBUTION).get_all("Requires-Dist") or []
    found = packages.packages(declared, extras, ["kaggle"], facts.version_of)
    torch = facts.version_of("torch")
    if torch is None:
        return found
    others = facts.requirements_of(UNNEEDED)
    return found + packages.leftovers(others, torch, vllm_here=vllm_here)


def _model(config: SolverConfig, folder: Path) -> Finding:
    if is_gguf(folder):
        return _gguf(config, folder)
    if not folder.is_dir():
        return fail("model", f"no folder {folder}", "name the model's folder with --model")
    kind = read_config(folder).get("model_type", "unknown")
    size = weights_bytes(folder)
    if config.model.engine == "transformers":
        from transformers import AutoConfig

        from solver.engines.loading import check_architecture

        check_architecture(
            AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
            config.model.context_length,
        )
    return ok("model", f"{kind}, {gb(size)} of weights in {folder}")


def _gguf(config: SolverConfig, path: Path) -> Finding:
    from solver.engines.gguf_model import gguf_settings
    from solver.engines.loading import check_architecture

    if config.model.engine == "vllm":
        return fail("model", f"{path} runs in process", "take a model folder for model.engine=vllm")
    file = GgufFile(path)
    check_architecture(gguf_settings(file), config.model.context_length)
    return ok("model", f"{file.architecture}, {gb(weights_bytes(path))} of weights in {path}")


def _memory(config: SolverConfig, folder: Path) -> Finding:
    on_cpu = _on_cpu(config)
    return machine.ram(
        available_memory(),
        _num_kernels(config),
        _need(config, folder, on_cpu=on_cpu),
        model_on_cpu=on_cpu,
    )


def _gpu(config: SolverConfig, folder: Path) -> Finding:
    share = _CUDA_SHARE
    if config.model.engine == "vllm":
        share = config.vllm.gpu_memory_utilization
    return machine.gpu(
        facts.gpus(),
        facts.torch_gpus(),
        device=config.model.device,
        num=num_gpus(config),
        share=share,
        need=_need(config, folder, on_cpu=False),
        small=config.model.path == EMBEDDED,
        driver_fault=driver_fault(facts.driver(), facts.torch_cuda()),
    )


def _need(config: SolverConfig, folder: Path, *, on_cpu: bool) -> Need | None:
    """What the model needs; None if a server holds it or it is missing, which other checks report."""
    if config.vllm.servers:
        return None
    try:
        return need(read_config(folder), weights_bytes(folder), config, on_cpu=on_cpu)
    except UserError:
        return None


def _on_cpu(config: SolverConfig) -> bool:
    return config.model.device == "cpu" or facts.torch_gpus() == 0


def _num_kernels(config: SolverConfig) -> int:
    """How many may run at once."""
    return config.prune.launch * config.budget.problems_at_once + config.sandbox.spares


def _disk(config: SolverConfig) -> Finding:
    return machine.disk(facts.free_disk(), _num_kernels(config) * config.sandbox.folder_bytes)


def _vllm(config: SolverConfig, folder: Path) -> Finding:
    if find_spec("vllm") is None:
        return fail(
            "vllm", "not installed", f"{install('vllm')}, or name one that runs in vllm.servers"
        )
    return trials.vllm_flags(config, folder, on_cpu=_on_cpu(config))
