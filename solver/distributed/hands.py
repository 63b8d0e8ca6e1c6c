"""What `--ray`, `--actors` and `--gpus-per-actor` ask for."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from solver.cli.extras import require
from solver.errors import ConfigError

LOCAL = "local"  # the address of a cluster that is started here and ended with the command
_ADDRESS = re.compile(r"local|auto|\S+:\d+/?")


@dataclass(frozen=True, slots=True)
class Hands:
    """How many actors are wanted, and where: None is as many as fit, `gpus` GPUs for each.

    `address` is that of a running cluster, or `LOCAL`.
    """

    address: str = LOCAL
    actors: int | None = None
    gpus: float | None = None

    @classmethod
    def of_flags(cls, address: str | None, actors: int | None, gpus: float | None) -> Hands | None:
        """What flags ask for, None without --ray. Raises `ConfigError` for what cannot be."""
        if address is None:
            if actors is not None or gpus is not None:
                raise ConfigError("--actors and --gpus-per-actor are for --ray: add it")
            return None
        require("--ray", "ray")
        if "://" in address:
            raise ConfigError(
                f"--ray {address}: Ray's client cannot stream; run this on a node of the cluster, with"
                " --ray auto or HOST:PORT"
            )
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ConfigError(
                "--gpus-per-actor is a whole number, or a part of one GPU such as 0.5"
            )
        return cls(address, actors, gpus)


def with_address(argv: Sequence[str] | None) -> list[str]:
    """The arguments (the process's own if None) with the address `local` behind a --ray that has none."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments: list[str] = []
    for argument, following in pairwise([*given, ""]):
        bare = argument == "--ray" and not _ADDRESS.fullmatch(following)
        arguments.append(f"--ray={LOCAL}" if bare else argument)
    return arguments
