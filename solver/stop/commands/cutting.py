"""What a training reads: examples as they are, or rollouts cut at its marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from solver.errors import ConfigError

if TYPE_CHECKING:
    from solver.stop.rollouts.examples import StopExample

END = "end"  # of --mark: whole rollouts


def examples_of(
    path: Path, marks: Sequence[int] | None, vocab_size: int | None, prompt: str | None
) -> tuple[str, Sequence[StopExample]]:
    """The prompt template and the examples of a file; rollouts are cut at `marks` (none: whole).

    `marks` and `prompt` are None if not given; rollouts know their own template. Raises `ConfigError` for
    another one, and `InputError` for a file that cannot be read.
    """
    from solver.stop.rollouts.collect import read_cut
    from solver.stop.rollouts.examples import read_examples
    from solver.stop.rollouts.file import ROLLOUTS

    if not path.name.endswith(ROLLOUTS):
        if marks == []:
            raise ConfigError(f"--mark {END} takes whole rollouts, a file *{ROLLOUTS}, not {path}")
        return prompt or "bare", read_examples(path, vocab_size)
    if marks is None:
        raise ConfigError(f"say with --mark where the rollouts of {path} are cut")
    header, _, examples = read_cut(path, marks)
    if prompt not in (None, header.prompt):
        raise ConfigError(f"{path} was sampled with --prompt {header.prompt}, not {prompt}")
    return header.prompt, examples
