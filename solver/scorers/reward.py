"""External, learned (kind II): a reward model reads the problem and the prefix as text.

Checkpoints with a sequence-classification head give one number a text; those with a token-classification
head are process reward models: one number a step (a line), and the weakest step counts. Both as
transformers reads them, without code from the checkpoint.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from solver.dialects.base import Dialect
from solver.errors import ModelError, ScorerError, first_line
from solver.scorers.declaration import Need, ScorerContext, ScorerDeclaration
from solver.scorers.texts import PromptShape, texts_of
from solver.types import Trajectory

BATCH_TOKENS = 8192  # padded tokens of one forward pass
_RIGHT = frozenset({"right", "correct", "good", "positive", "true", "yes", "+"})
_HEADS = ("ForSequenceClassification", "ForTokenClassification")

Text = tuple[str, str]  # statement, what was written


class RewardScorer:
    """Scores by the reward model in `folder`, once `load` has loaded it."""

    name = "reward"

    def __init__(self, folder: Path, dialect: Dialect, device: str = "cpu") -> None:
        """Raises `ModelError` if the folder holds no checkpoint of a known kind."""
        self._head = head_of(folder)
        self._folder, self._dialect, self._device = folder, dialect, device
        self._shape = PromptShape.of(dialect)
        self._model: RewardModel | None = None

    async def load(self) -> None:
        """Load the checkpoint; raises `ModelError`."""
        from solver.engines.threads import in_own_thread

        self._model = await asyncio.to_thread(
            in_own_thread, RewardModel, self._folder, self._head, self._device
        )

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """The margin (logit) of "right" for each; `ScorerError` once `deadline` has passed."""
        from solver.engines.threads import in_own_thread

        loop, model = asyncio.get_running_loop(), self._model
        assert model is not None, "the scorer is loaded first"
        texts = texts_of(self._dialect, self._shape, [t.token_ids for t in trajectories])
        scores = [0.0] * len(texts)
        encoded = [model.encode(text) for text in texts]
        for places in batches([len(ids) for ids, _ in encoded]):
            if loop.time() >= deadline:
                raise ScorerError("the reward model did not read every prefix before the deadline")
            some = [encoded[place] for place in places]
            margins = await asyncio.to_thread(in_own_thread, model.margins, some)
            for place, margin in zip(places, margins, strict=True):
                scores[place] = margin
        return scores


class RewardModel:
    """A checkpoint and its tokenizer, in eval mode."""

    def __init__(self, folder: Path, head: str, device: str = "cpu") -> None:
        """Load it; raises `ModelError`."""
        import transformers

        auto: Any = getattr(transformers, f"AutoModel{head}")
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            model: Any = auto.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype="auto",
            )
        except Exception as error:  # of libraries that raise whatever comes
            reason = first_line(error)
            raise ModelError(f"the reward model {folder} cannot be loaded: {reason}") from None
        pad = self.tokenizer.pad_token_id
        self._pad = self.tokenizer.eos_token_id if pad is None else pad
        if self._pad is None:
            raise ModelError(f"the tokenizer of the reward model {folder} has no padding token")
        model.config.pad_token_id = self._pad
        self._steps = head == "ForTokenClassification"
        self._right = right_label(model.config.num_labels, model.config.id2label, folder)
        self._longest = getattr(model.config, "max_position_embeddings", None)
        self._model = model.to(device).eval()

    def encode(self, text: Text) -> tuple[list[int], list[int]]:
        """Ids, and the positions whose outputs are judged (the last one of each step)."""
        if self._steps:
            ids, ends = encode_steps(self.tokenizer, text)
        else:
            ids = encode_text(self.tokenizer, text)
            ends = [len(ids) - 1]
        if self._longest is not None and len(ids) > self._longest:
            raise ScorerError(
                f"a prefix of {len(ids)} tokens is longer than the reward model's {self._longest}"
            )
        return ids, ends

    def margins(self, batch: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        """The lowest margin of "right" over the judged positions of each text."""
        import torch

        longest = max(len(ids) for ids, _ in batch)
        table = torch.tensor([[*ids, *[self._pad] * (longest - len(ids))] for ids, _ in batch])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in batch])
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(
                input_ids=table.to(device), attention_mask=mask.to(device)
            ).logits.float()
        if self._right is None:
            margins = logits[..., 0]
        else:
            margins = logits[..., self._right] - logits[..., 1 - self._right]
        rows = margins.cpu().tolist()
        if not self._steps:
            return [float(margin) for margin in rows]
        return [
            min(row[place] for place in ends) for row, (_, ends) in zip(rows, batch, strict=True)
        ]


def encode_text(tokenizer: Any, text: Text) -> list[int]:
    """Ids of a conversation by the tokenizer's chat template, or of both texts, a blank line between."""
    statement, written = text
    if tokenizer.chat_template:
        messages = [
            {"role": "user", "content": statement},
            {"role": "assistant", "content": written},
        ]
        rendered = tokenizer.apply_chat_template(messages, tokenize=False)
        return list(tokenizer.encode(rendered, add_special_tokens=False))
    return list(tokenizer.encode(f"{statement}\n\n{written}"))


def encode_steps(tokenizer: Any, text: Text) -> tuple[list[int], list[int]]:
    """Ids with each line encoded by itself, and the place of each line's last id.

    Lines end in a line break, which is where process reward models (TRL's layout) are trained.
    """
    statement, written = text
    opening = f"{statement}\n\n"
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": statement}]
        opening = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    ids = list(tokenizer.encode(opening, add_special_tokens=not tokenizer.chat_template))
    ends = []
    for line in filter(str.strip, written.splitlines() or [written]):
        ids += tokenizer.encode(f"{line}\n", add_special_tokens=False)
        ends.append(len(ids) - 1)
    return ids, ends or [len(ids) - 1]


def head_of(folder: Path) -> str:
    """`ForSequenceClassification` or `ForTokenClassification`. Raises `ModelError`."""
    try:
        architectures = json.loads((folder / "config.json").read_text()).get("architectures")
    except (OSError, ValueError, AttributeError):
        raise ModelError(
            f"no reward model in {folder}: give a folder with config.json, weights and tokenizer"
        ) from None
    name = str((architectures or ["?"])[0])
    for head in _HEADS:
        if name.endswith(head):
            return head
    raise ModelError(f"{folder} holds {name}, which is not one of {' or '.join(_HEADS)}")


def right_label(num_labels: int, names: dict[int, str], folder: Path) -> int | None:
    """Which of two labels means "right" (by its name, else the second); None for a single output."""
    if num_labels == 1:
        return None
    if num_labels != 2:
        raise ModelError(f"the reward model {folder} has {num_labels} outputs, not 1 or 2")
    return 0 if str(names.get(0, "")).lower() in _RIGHT else 1


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices grouped by length, each group at most `BATCH_TOKENS` after padding (or one text)."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and (len(batch) + 1) * lengths[place] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


async def _open(context: ScorerContext) -> RewardScorer:
    """One model for all marks of this context."""
    if "reward" not in context.shared:
        device = context.engine.capabilities.device
        scorer = RewardScorer(context.reward_model, context.dialect, device)
        # here, for a folder that cannot be loaded is a mistake of the user's, not a failed check
        await scorer.load()
        context.shared["reward"] = scorer
    found: RewardScorer = context.shared["reward"]
    return found


REWARD = ScorerDeclaration(
    "reward", open=_open, needs=frozenset({Need.REWARD_MODEL}), gives_chances=True
)
