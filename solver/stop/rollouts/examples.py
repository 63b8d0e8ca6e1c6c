"""Training data: prefixes with soft labels, one JSON object a line.

Rows of the STOP authors (`prefix_token_ids` with `soft_label` or `Soft_label`) are read as they are;
they name no problem, so each row then stands for a problem of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from solver.errors import InputError, first_fault
from solver.files.whole import write_whole


class StopExample(BaseModel):
    """A prefix, and how often its continuations ended right: s = num_correct / num_rollouts.

    `weight` counts how often this prefix was seen. `logprobs` are those of the sampled ids of the
    prefix (nats): stop+confidence is fitted when every validation example has them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    prefix_token_ids: tuple[int, ...] = Field(min_length=1)
    soft_label: float = Field(ge=0, le=1, validation_alias=AliasChoices("soft_label", "Soft_label"))
    num_rollouts: int | None = Field(None, ge=1)
    num_correct: int | None = Field(None, ge=0)
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    problem_id: str = ""
    family: str | None = None
    kind: str | None = None
    logprobs: tuple[FiniteFloat, ...] | None = Field(None, min_length=1)

    @property
    def group(self) -> str:
        """The same for prefixes that a check chooses among: of one problem, cut at one mark."""
        return f"{self.problem_id} {len(self.logprobs or ())}"


def write_examples(path: Path, examples: Iterable[StopExample]) -> None:
    """Write JSONL; the file appears whole or not at all. Raises `InputError`."""
    lines = (example.model_dump_json(exclude_none=True) + "\n" for example in examples)
    write_whole(path, "".join(lines))


def read_examples(path: Path, vocab_size: int | None = None) -> list[StopExample]:
    """Read JSONL. Raises `InputError` that names the line of what is wrong, or says it is empty."""
    examples = []
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    example = _read(line, f"{path} line {number}", vocab_size)
                    if not example.problem_id:
                        named = {"problem_id": f"{path} line {number}"}
                        example = example.model_copy(update=named)
                    examples.append(example)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if not examples:
        raise InputError(f"{path} holds no examples")
    return examples


def check_classes(examples: Sequence[StopExample], what: str) -> None:
    """Raise `InputError` if all labels are the same: there is nothing to tell apart."""
    labels = {example.soft_label for example in examples}
    if len(labels) < 2:
        only = f"every label is {labels.pop():g}" if labels else "it is empty"
        raise InputError(f"{what} cannot be learned from: {only}")


def digest(examples: Iterable[StopExample]) -> str:
    """The sha256 (hex) of examples in their order."""
    sha = hashlib.sha256()
    for example in examples:
        sha.update(example.model_dump_json().encode())
    return sha.hexdigest()


def _read(line: bytes, place: str, vocab_size: int | None) -> StopExample:
    try:
        example = StopExample.model_validate_json(line)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "json_invalid":
            raise InputError(f"{place} is torn or not JSON") from None
        raise InputError(f"{place}: {first_fault(error, 'row')}") from None
    largest, smallest = max(example.prefix_token_ids), min(example.prefix_token_ids)
    if smallest < 0 or (vocab_size is not None and largest >= vocab_size):
        wrong = smallest if smallest < 0 else largest
        limit = f" of {vocab_size} ids" if vocab_size is not None else ""
        raise InputError(f"{place}: id {wrong} is beyond the model's vocabulary{limit}")
    if (example.num_correct or 0) > (example.num_rollouts or example.num_correct or 0):
        raise InputError(f"{place}: more correct rollouts than rollouts")
    return example
