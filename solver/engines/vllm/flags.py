"""Parses a server's flags, and refuses those in `vllm.args` that the user may not set.

A flag has one name however it is written: --x y, --x=y, --no-x, --x.key or with underscores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from solver.errors import ConfigError

_OWNED = (
    *("--host", "--port", "--uds", "--model", "--served-model-name", "--api-key", "--root-path"),
    *("--ssl-keyfile", "--ssl-certfile", "--headless", "--grpc", "--skip-tokenizer-init"),
    *("--disable-log-stats", "--logprobs-mode"),
)
_SHORT = {"-pp": "--pipeline-parallel-size"}
_FLAG = re.compile(r"--?[A-Za-z]")
HALF = ("float16", "half")  # the dtypes that the adapter cannot be served in


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag with its values; `name` is the long one, the same for --x, --no-x and --x.key."""

    name: str
    words: tuple[str, ...]

    @property
    def value(self) -> str:
        """Its only value, however it was written; empty if it has none or several."""
        _, equals, value = self.words[0].partition("=")
        return value if equals else self.words[1] if len(self.words) == 2 else ""


def read_flags(words: Sequence[str]) -> list[Flag]:
    """The flags of a command line. Raises `ConfigError` if its first word is no flag."""
    groups: list[list[str]] = []
    for word in words:
        if _FLAG.match(word):
            groups.append([word])
        elif groups:
            groups[-1].append(word)
        else:
            raise ConfigError(f"vllm.args begins with {word!r}: give flags, such as --seed")
    return [Flag(_name(group[0]), tuple(group)) for group in groups]


def _name(word: str) -> str:
    name = re.split(r"[=.]", word, maxsplit=1)[0].replace("_", "-")
    return _SHORT.get(name, re.sub("^--no-", "--", name))


def check_flags(theirs: Sequence[Flag], adapters: Sequence[Flag]) -> None:
    """Refuse flags that the solver sets itself and, with an adapter's flags, what the adapter rules out.

    Raises `ConfigError`.
    """
    needed = {flag.name for flag in adapters}
    for flag in theirs:
        shown = " ".join(flag.words)
        # argparse accepts abbreviated flags
        if any(owned.startswith(flag.name) for owned in _OWNED):
            raise ConfigError(f"vllm.args holds {shown}: the solver sets that itself; leave it out")
        if not needed:
            continue
        if flag.name in needed:
            raise ConfigError(
                f"vllm.args holds {shown}: the STOP adapter needs {flag.name} itself; leave it out,"
                " or choose another scorer"
            )
        if flag.name == "--dtype" and flag.value in HALF:
            raise ConfigError(
                "the STOP adapter cannot be served in float16: leave --dtype out of vllm.args"
            )
        if flag.name == "--pipeline-parallel-size" and flag.value != "1":
            raise ConfigError(
                "the STOP adapter cannot be served with pipeline parallelism: use"
                " --tensor-parallel-size in vllm.args, or choose another scorer"
            )
