"""The self-check: tries here, on real kernels, everything that the sandbox claims."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sandbox import groups, trials
from sandbox.isolation import Isolation, isolation
from sandbox.pool import KernelPool


@dataclass(frozen=True)
class Finding:
    """One line of the table; `holds` is None where nothing is claimed, and `note` says why."""

    guarantee: str
    mechanism: str
    holds: bool | None
    note: str = ""


@dataclass(frozen=True)
class _Claim:
    guarantee: str
    mechanism: str
    holds: Callable[[KernelPool], Awaitable[bool]]
    not_claimed: str = ""


async def check() -> list[Finding]:
    """Try every claim; takes some seconds."""
    findings = []
    os.environ[trials.SECRET] = "secret"  # as a user's tokens would be
    try:
        async with KernelPool(trials.LIMITS) as pool:
            for claim in _claims(isolation()):
                holds: bool | None = None
                if not claim.not_claimed:
                    try:
                        holds = await claim.holds(pool)
                    except Exception as error:  # whatever it was, the claim was not shown to hold
                        holds = False
                        claim = _Claim(claim.guarantee, claim.mechanism, claim.holds, repr(error))
                findings.append(Finding(claim.guarantee, claim.mechanism, holds, claim.not_claimed))
    finally:
        del os.environ[trials.SECRET]
    return findings


def _claims(held: Isolation) -> list[_Claim]:
    def without(*layers: str) -> str:
        if any(layer in held.layers for layer in layers):
            return ""
        return f"{layers[-1]}: {held.missing.get(layers[-1], 'not here')}"

    owner = "a uid of its own, kill(-1)" if "uid" in held.layers else "subreaper, walk of /proc"
    tree = without("uid", "subreaper")
    counting = "watchdog" if groups.parent() is None else "control group, watchdog"
    linux = sys.platform == "linux"
    # A namespace counts for itself, but not what root's own user runs.
    bounded = "uid" in held.layers or (held.private_shm and os.geteuid() != 0)
    signals = "" if held.signals_stopped else without("uid")
    seccomp, landlock = without("seccomp"), without("landlock")
    shm = "" if held.private_shm else f"kernels have none here: {held.missing.get('shm', 'no')}"
    counted = "" if held.readable else "resident pages only: we may not look into them"
    grouped = "" if groups.parent() is None else "the control group counts them when they are full"
    sockets = counted or grouped
    hidden = seccomp or landlock or counted
    return [
        _Claim("G1 an answer in time", "absolute deadline, interrupt, kill", trials.in_time),
        _Claim("G2 bounded output", "counted in the kernel and again outside", trials.bounded),
        _Claim("G3 the solver is not harmed", "a kernel is another process", trials.unharmed),
        _Claim("G3 a flood of messages", "bounded while it is read", trials.flooded),
        _Claim("G4 a fresh process each time", "never reused", trials.fresh),
        _Claim("G5 no secrets, own folder, no stdin", "allow-list, 0700, /dev/null", trials.clean),
        _Claim("G6 nothing is left running", "killed at release", trials.swept),
        _Claim("G7 isolation is announced", "log, result, require", trials.announced),
        _Claim("H1 no network", "seccomp", trials.no_network, seccomp),
        _Claim("H1 no way around", "seccomp", trials.no_way_around, seccomp),
        _Claim("H1 no reach into others", "seccomp", trials.all_refused(trials.REACH), seccomp),
        _Claim("H2 writes in its folder only", "Landlock", trials.no_writes, landlock),
        _Claim("H3 reads of libraries only", "Landlock", trials.no_reads, landlock),
        _Claim(
            "H3 no ports, peers, terminals",
            "Landlock",
            trials.all_refused(trials.SURROUNDINGS),
            landlock,
        ),
        _Claim("H4 no signals to the solver", "uid, Landlock scope", trials.no_signals, signals),
        _Claim("H4 uids of its own", "locks of root's", trials.own_uids, without("uid")),
        _Claim("H5 daemons are found", owner, trials.swept, tree),
        _Claim("H6 no orphans of a killed solver", "parent-death signal", trials.no_orphans, tree),
        _Claim(
            "H6 no orphans of a killed zygote", "its parent", trials.no_orphans_of_the_zygote, tree
        ),
        _Claim("limit on memory", "RLIMIT_AS", trials.memory, "" if linux else "macOS has none"),
        _Claim(
            "limit on memory of all it started",
            counting,
            trials.stopped_for(trials.TREE, "of memory"),
        ),
        _Claim(
            "limit on what sockets hold",
            counting,
            trials.stopped_for(trials.SOCKETS, "of memory"),
            sockets,
        ),
        _Claim(
            "limit on watches",
            "watchdog",
            trials.stopped_for(trials.WATCHES, "descriptors"),
            counted,
        ),
        _Claim(
            "no memory that is not counted",
            "seccomp, Landlock",
            trials.all_refused(trials.HIDDEN),
            hidden,
        ),
        _Claim("limit on /dev/shm", "a tmpfs of its own", trials.shm, shm),
        _Claim(
            "limit on processes",
            "RLIMIT_NPROC",
            trials.processes,
            "" if bounded else "watchdog only",
        ),
        _Claim("limit on a file", "RLIMIT_FSIZE", trials.file),
        _Claim("limit on the folder", "watchdog", trials.stopped_for(trials.FOLDER, "of files")),
        _Claim(
            "limit on deleted files",
            "watchdog",
            trials.stopped_for(trials.NAMELESS, "of files"),
            counted,
        ),
        _Claim("a model is told what happened", "in words", trials.told),
    ]
