"""Training is deterministic and resumable; the saved folder is complete."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from solver.embedded import data
from solver.embedded.familiarity import scores
from solver.embedded.tokens import STOP_TOKENS
from solver.embedded.train import Run, Settings, rate, save, weights_hash
from solver.errors import InputError

SETTINGS = Settings(num=80, hidden=16, intermediate=32, layers=2, heads=2, batch_size=4)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    data.build(folder, 80, 0, 1, lambda done, total: None)
    return folder


def finish(run: Run) -> list[float]:
    return [run.advance() for _ in range(len(run.order) - run.step)]


def test_a_resumed_training_ends_with_the_same_weights(corpus_folder: Path, tmp_path: Path) -> None:
    whole = Run(SETTINGS, tmp_path / "a", corpus_folder, "cpu", every=1000)
    losses = finish(whole)
    assert len(losses) == 20
    assert losses[-1] < losses[0]

    broken = Run(SETTINGS, tmp_path / "b", corpus_folder, "cpu", every=5)
    for _ in range(12):
        broken.advance()
    resumed = Run(SETTINGS, tmp_path / "b", corpus_folder, "cpu", every=5)
    assert resumed.step == 10
    assert finish(resumed) == losses[10:]
    assert weights_hash(resumed.model) == weights_hash(whole.model)
    assert resumed.tokens == whole.tokens


def test_the_seed_decides_the_weights(corpus_folder: Path, tmp_path: Path) -> None:
    runs = [Run(SETTINGS, tmp_path / name, corpus_folder, "cpu") for name in "ab"]
    assert runs[0].advance() == runs[1].advance()
    assert weights_hash(runs[0].model) == weights_hash(runs[1].model)
    with pytest.raises(InputError, match="seed 0, not 1"):
        Run(replace(SETTINGS, seed=1), tmp_path / "c", corpus_folder, "cpu")


def test_other_settings_do_not_resume(corpus_folder: Path, tmp_path: Path) -> None:
    run = Run(SETTINGS, tmp_path, corpus_folder, "cpu", every=1)
    run.advance()
    with pytest.raises(InputError, match="other settings"):
        Run(replace(SETTINGS, muon_rate=1e-3), tmp_path, corpus_folder, "cpu")


@pytest.mark.parametrize("wrong", [{"num": 3}, {"hidden": 18}])
def test_settings_that_cannot_be_trained_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        replace(SETTINGS, **wrong).check()


def test_the_rate_warms_up_and_falls() -> None:
    rates = [rate(step, 1000, warmup=100) for step in range(1000)]
    assert max(rates) == rates[99] == pytest.approx(1.0)
    assert rates[0] < rates[50] < rates[99] > rates[500] > rates[999] > 0


def test_batches_cover_the_corpus_once_in_like_lengths(corpus_folder: Path) -> None:
    corpus = data.load(corpus_folder, 0)
    order = data.batch_order(corpus.lengths, 4, seed=0)
    assert sorted(torch.cat(order).tolist()) == list(range(80))
    inside = sum(float(corpus.lengths[batch].float().std()) for batch in order) / len(order)
    assert inside < float(corpus.lengths.float().std()) / 2


def test_collate_pads_right_and_masks_outputs(corpus_folder: Path) -> None:
    corpus = data.load(corpus_folder, 0)
    starts = corpus.lengths.long().cumsum(0) - corpus.lengths
    batch = torch.tensor([3, 70])
    ids, labels = data.collate(corpus, starts, batch, pad=0)
    for row, index in enumerate(batch.tolist()):
        start, length = int(starts[index]), int(corpus.lengths[index])
        learn = corpus.learn[start : start + length]
        assert torch.equal(ids[row, :length].short(), corpus.ids[start : start + length])
        assert torch.equal(labels[row, :length][learn], ids[row, :length][learn])
        assert bool((labels[row, :length][~learn] == data.IGNORED).all())
        assert bool((labels[row, length:] == data.IGNORED).all())


def test_two_workers_write_the_same_corpus(corpus_folder: Path, tmp_path: Path) -> None:
    alone = data.load(corpus_folder, 0)
    together = data.build(tmp_path, 80, 0, 2, lambda done, total: None)
    assert torch.equal(alone.ids, together.ids)
    assert torch.equal(alone.head(12).lengths, data.build(tmp_path, 12, 0, 1, print).lengths)
    with pytest.raises(InputError, match="80 trajectories, not 90"):
        data.build(tmp_path, 90, 0, 1, print)


def test_the_saved_folder_is_complete(corpus_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = Run(SETTINGS, tmp_path / "work", corpus_folder, "cpu")
    loss = run.advance()
    save(run, tmp_path / "weights", loss)
    facts = json.loads((tmp_path / "weights" / "embedded.json").read_text())
    assert facts["mark"] == run.corpus.mark()
    assert facts["sampling"]["temperature"] == 1.0
    assert facts["training"]["steps"] == 1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "weights")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "weights")
    assert weights_hash(model) == facts["training"]["weights_sha256"]
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.convert_tokens_to_ids(STOP_TOKENS[0]) == 4
    both = ["Count the integers.", "Find the sum of the proper divisors of 90."]
    together = scores(model, tokenizer, both)
    assert together == pytest.approx([scores(model, tokenizer, [text])[0] for text in both], 1e-4)
    assert min(together) > facts["familiarity_threshold"] - 2
