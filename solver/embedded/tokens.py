"""The tokenizer and the training layout: text to ids, piece by piece as they arise in a run.

A turn is `<|user|>statement<|end|><|assistant|>` and then the assistant's ids. Tool outputs are
encoded apart from the model's own text, in training as in a run, so token borders agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from solver.embedded.corpus import Draft, trajectory

if TYPE_CHECKING:
    from pathlib import Path

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
STOP_TOKENS = tuple(f"<|stop_{i}|>" for i in range(8))
VOCABULARY_SIZE = 1024
MAX_LENGTH = 512

_SAMPLE = 2400  # trajectories of the corpus that the tokenizer is trained on

# A digit alone; a word; a run of signs with the line break or the blank that follows; white space.
# A blank before a digit belongs to what precedes it, so a number costs its digits only.
_PIECES = r"\d| ?\p{L}+(?: (?=\d))?| ?[^\s\p{L}\d]+(?:\n\s*| (?=\d))?|\s+"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ('user', 'assistant') %}"
    "{{ raise_exception('only user and assistant messages are known to this model') }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of one trajectory; `learn[i]` says whether id i counts in the loss (prompt and own text).

    `plan_length` and `sampled_length` are numbers of sampled tokens, the end token included.
    """

    ids: list[int]
    learn: list[bool]
    plan_length: int
    sampled_length: int


def train_tokenizer(seed: int) -> Any:
    """A byte-level BPE trained on the corpus, as a transformers PreTrainedTokenizerFast."""
    drafts = (trajectory(index, seed) for index in range(_SAMPLE))
    return tokenizer_from_texts(text for draft in drafts for text in _texts(draft))


def tokenizer_from_texts(texts: Iterable[str]) -> Any:
    """The same tokenizer design trained on any texts; same texts, same tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, USER, ASSISTANT, END, *STOP_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    wrap: Any = PreTrainedTokenizerFast  # untyped in some versions, typed in others
    return wrap(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, *STOP_TOKENS],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_LENGTH,
        padding_side="left",
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in a model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder))


def render_prompt(statement: str) -> str:
    """The prompt as text; `apply_chat_template` renders a single user message to the same."""
    return f"{USER}{statement}{END}{ASSISTANT}"


def encode(tokenizer: Any, draft: Draft) -> Encoded:
    """Encode a trajectory piece by piece into the layout that a run produces."""

    def ids_of(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    ids = ids_of(render_prompt(draft.problem.statement))
    learn = [True] * len(ids)
    sampled_length = 0
    for segment in draft.segments:
        piece = ids_of(segment.text)
        ids += piece
        learn += [segment.sampled] * len(piece)
        sampled_length += len(piece) * segment.sampled
    ids.append(tokenizer.eos_token_id)
    learn.append(True)
    return Encoded(ids, learn, len(ids_of(draft.plan)), sampled_length + 1)


def _texts(draft: Draft) -> Iterable[str]:
    yield draft.problem.statement
    yield from (segment.text for segment in draft.segments)
