from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from solver.adapter.folder import load_adapter, read_spec
from solver.adapter.gate import StopAdapter, StopGate
from solver.adapter.score import score_prefixes
from solver.embedded.paths import WEIGHTS
from solver.engines.tokenizer import load_tokenizer
from solver.errors import ConfigError, InputError, ModelError
from solver.stop.rollouts.examples import StopExample
from solver.stop.training import epochs as epochs_module
from solver.stop.training.base import load_base
from solver.stop.training.checkpoint import TrainingState
from solver.stop.training.learner import TrainingFailed
from solver.stop.training.recipe import Recipe, make_recipe
from solver.stop.training.train import checkpoint_folder, train
from tests.support.progress import HeardProgress
from tests.support.tiny_models import STOP_IDS, tiny_model

QUICK = Recipe(
    stop_token_ids=STOP_IDS, rank=4, learning_rate=2e-2, warmup_steps=4, batch_size=32, epochs=6
)


def planted(
    count: int = 320, *, shuffled: bool = False, logprobs: bool = False, signal_at: int = 1
) -> list[StopExample]:
    """A prefix ends right if its second id is 4 and wrong if it is 5: the adapter must look back.

    `signal_at` is another place than the second.
    """
    generator = torch.Generator().manual_seed(7)
    examples = []
    for index in range(count):
        length = int(torch.randint(5, 9, (), generator=generator))
        ids = torch.randint(2, 36, (length,), generator=generator).tolist()
        ids[signal_at] = 4 + ids[signal_at] % 2
        label = float(ids[signal_at] == 4)
        if shuffled:
            label = float(torch.randint(0, 2, (), generator=generator))
        noise = torch.rand(4, generator=generator)
        examples.append(
            StopExample(
                prefix_token_ids=tuple(ids),
                soft_label=label,
                problem_id=f"p{index // 8}",
                weight=1 + index % 2,
                logprobs=tuple((-noise).tolist()) if logprobs else None,
            )
        )
    return examples


def run(out: Path, base: Path, recipe: Recipe = QUICK, **options: Any) -> Any:
    data = options.pop("data", None) or planted()
    return train(data, base, out, recipe, **{"marks": [4], **options}, cpu=True)


def content(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
    }


def test_it_learns_a_planted_signal(tmp_path: Path, llama_folder: Path) -> None:
    out, heard, epochs = tmp_path / "adapter", HeardProgress(), []
    recipe = QUICK.model_copy(update={"epochs": 14, "targets": "all-linear"})
    spec = run(
        out, llama_folder, recipe, data=planted(960, logprobs=True),
        progress=heard, on_epoch=epochs.append, base_name="tiny",
    )  # fmt: skip
    assert spec.validation.auroc > 0.9 and spec.validation.within_auroc > 0.9
    assert spec.validation.brier == min(e.validation.brier for e in spec.training.epochs)
    assert spec.combiner is not None and spec.combiner.within_auroc > 0.9
    told = [line.partition(":")[0] for line in epochs]
    assert told == [f"epoch {n} of 14" for n in range(1, len(spec.training.epochs) + 1)]
    steps = [(done, total) for stage, done, total, _ in heard.reports if stage == "steps"]
    assert {done for done, _ in steps} == set(range(steps[-1][1] + 1)), "every step is reported"
    tokens = [(done, total) for stage, done, total, _ in heard.reports if stage == "prefix tokens"]
    assert tokens[0][0] == 0 and tokens[-1] == (tokens[0][1], tokens[0][1])
    assert heard.output.getvalue() == ""
    assert [p.name for p in tmp_path.iterdir() if p != out] == ["adapter-curve.png"]
    assert (
        spec.probe is not None
        and spec.probe.validation.num_examples == spec.validation.num_examples
    )

    model = tiny_model("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loaded = load_adapter(out, llama_folder, marks=[4])
    assert loaded.spec == spec and "o_proj" in spec.targets
    with StopGate.attach(model, loaded.adapter) as gate:
        stored = loaded.spec.handshake
        assert stored is not None
        again = score_prefixes(model, gate, [stored.prefix_token_ids])
        assert stored.agrees(float(again[0]), "float32")
        held_out = planted(1100)[960:]
        scores = score_prefixes(model, gate, [e.prefix_token_ids for e in held_out])
    right = scores[[e.soft_label == 1 for e in held_out]]
    wrong = scores[[e.soft_label == 0 for e in held_out]]
    assert (right[:, None] > wrong).float().mean() > 0.9
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_shuffled_labels_keep_the_old_adapter(tmp_path: Path, llama_folder: Path) -> None:
    out = tmp_path / "adapter"
    run(out, llama_folder, QUICK.model_copy(update={"epochs": 1, "auroc_floor": 0.0}))
    old = content(out)
    with pytest.raises(TrainingFailed, match=r"AUROC is 0\.\d+, below the floor of 0\.9"):
        run(
            out, llama_folder, QUICK.model_copy(update={"epochs": 2, "auroc_floor": 0.9}),
            data=planted(shuffled=True),
        )  # fmt: skip
    assert content(out) == old


def test_a_lower_floor_takes_what_was_trained(tmp_path: Path, llama_folder: Path) -> None:
    out, heard = tmp_path / "adapter", HeardProgress()
    recipe = QUICK.model_copy(update={"epochs": 1, "auroc_floor": 1.0})
    with pytest.raises(TrainingFailed, match="--resume with a lower --auroc-floor takes it"):
        run(out, llama_folder, recipe, data=planted(shuffled=True))
    lower = recipe.model_copy(update={"auroc_floor": 0.0})
    run(out, llama_folder, lower, data=planted(shuffled=True), resume=True, progress=heard)
    assert (out / "stop.json").exists()
    assert "validating" not in {stage for stage, *_ in heard.reports}, "nothing is trained again"
    assert not checkpoint_folder(out).exists()


def test_it_begins_at_chance(tmp_path: Path, llama_folder: Path) -> None:
    """The first step's loss is that of the share of right ends, whatever the model's states are like."""
    heard = HeardProgress()
    recipe = QUICK.model_copy(update={"epochs": 1, "auroc_floor": 0.0, "batch_size": 1000})
    run(tmp_path / "adapter", llama_folder, recipe, progress=heard)
    notes = [note for stage, done, _, note in heard.reports if stage == "steps" and done == 1]
    share = torch.tensor(0.5)
    chance = float(torch.nn.functional.binary_cross_entropy(share, share))
    assert float(notes[0].rpartition(" ")[2]) == pytest.approx(chance, abs=0.02)


def test_a_fitted_head_begins_with_what_the_first_states_tell(
    tmp_path: Path, llama_folder: Path
) -> None:
    losses = {}
    for head in ("zero", "fitted"):
        heard = HeardProgress()
        changes = {"epochs": 1, "auroc_floor": 0.0, "batch_size": 1000, "head": head}
        recipe = QUICK.model_copy(update=changes)
        data = planted(signal_at=-1)
        run(tmp_path / head, llama_folder, recipe, data=data, progress=heard)
        notes = [note for stage, done, _, note in heard.reports if stage == "steps" and done == 1]
        losses[head] = float(notes[0].rpartition(" ")[2])
    assert losses["fitted"] < losses["zero"] - 0.2


def test_ids_begin_as_the_tokens_of_a_text() -> None:
    text = "Correct: 7"
    base = load_base(WEIGHTS, Recipe(stop_text=text), "cpu")
    assert len(base.begin_as) == len(base.stop_token_ids) > 1
    assert load_tokenizer(WEIGHTS).decode(base.begin_as) == text
    assert not set(base.begin_as) & set(base.stop_token_ids)
    adapter = StopAdapter.fresh(base.model, base.stop_token_ids, begin_as=base.begin_as)
    table = base.model.get_input_embeddings().weight
    assert torch.equal(adapter.embeddings, table[list(base.begin_as)])
    ids = base.stop_token_ids
    given = load_base(WEIGHTS, Recipe(stop_text=text, stop_token_ids=ids), "cpu")
    assert given.begin_as == base.begin_as
    with pytest.raises(
        ConfigError, match=rf"'Correct: 7' has {len(ids)} tokens.*not {len(ids) - 1}"
    ):
        load_base(WEIGHTS, Recipe(stop_text=text, stop_token_ids=ids[1:]), "cpu")
    with pytest.raises(ConfigError, match="a stop text says how many"):
        make_recipe("few-problems", {"num_stop_tokens": 2})


SHORT = QUICK.model_copy(update={"epochs": 3, "auroc_floor": 0.0})


def test_the_same_seed_is_the_same_folder(tmp_path: Path, llama_folder: Path) -> None:
    run(tmp_path / "a" / "adapter", llama_folder, SHORT)
    run(tmp_path / "b" / "adapter", llama_folder, SHORT)
    run(tmp_path / "c" / "adapter", llama_folder, SHORT.model_copy(update={"seed": 1}))
    first, again, other = (content(tmp_path / name / "adapter") for name in "abc")
    assert first == again
    assert first["adapter_model.safetensors"] != other["adapter_model.safetensors"]


@pytest.mark.parametrize("killed_at", [9, 13])
def test_a_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """After an epoch's last step, before it was validated, and in the middle of one."""
    run(tmp_path / "whole" / "adapter", llama_folder, SHORT)
    out = tmp_path / "cut" / "adapter"
    save = epochs_module.save_checkpoint

    def save_and_die(folder: Path, state: TrainingState, *rest: Any) -> None:
        save(folder, state, *rest)
        if state.step == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(epochs_module, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(epochs_module, "save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(out, llama_folder, SHORT)
    assert not out.exists() and checkpoint_folder(out).is_dir()
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="is of another training: recipe was"):
        run(out, llama_folder, SHORT.model_copy(update={"rank": 8}), resume=True)
    with pytest.raises(ConfigError, match="is of another training: data was"):
        run(out, llama_folder, SHORT, resume=True, data=planted(240))
    run(out, llama_folder, SHORT, resume=True)
    assert content(out) == content(tmp_path / "whole" / "adapter")
    assert not checkpoint_folder(out).exists()
    with pytest.raises(ConfigError, match="no training to resume"):
        run(out, llama_folder, SHORT, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, llama_folder: Path) -> None:
    folder = checkpoint_folder(tmp_path / "adapter")
    folder.mkdir()
    (folder / "state.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        run(tmp_path / "adapter", llama_folder, SHORT, resume=True)


@pytest.mark.parametrize("changes", [{"cache_gib": 0.0}, {"cache_gib": 2e-4}, {"micro_batch": 7}])
def test_memory_bounds_do_not_change_the_result(
    tmp_path: Path, llama_folder: Path, changes: dict[str, Any]
) -> None:
    """Recomputed prefixes and accumulated gradients: the same training but for rounding."""
    plain = run(tmp_path / "plain", llama_folder, SHORT)
    bounded = run(tmp_path / "bounded", llama_folder, SHORT.model_copy(update=changes))
    for ours, theirs in zip(plain.training.epochs, bounded.training.epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-4)
        assert ours.validation.brier == pytest.approx(theirs.validation.brier, abs=1e-3)


def test_prefixes_in_a_folder(
    tmp_path: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same training as from memory; another one on the same data computes no prefix."""
    kv = tmp_path / "kv"
    run(tmp_path / "memory" / "adapter", llama_folder, SHORT)
    run(tmp_path / "folder" / "adapter", llama_folder, SHORT, kv=kv)
    assert content(tmp_path / "memory" / "adapter") == content(tmp_path / "folder" / "adapter")
    monkeypatch.setattr("solver.stop.training.prefixes.encode_siblings", None)
    other = SHORT.model_copy(update={"seed": 1, "epochs": 1})
    run(tmp_path / "other", llama_folder, other, kv=kv)
    with pytest.raises(ConfigError, match="are of another dtype"):
        run(tmp_path / "x", llama_folder, other.model_copy(update={"dtype": "bfloat16"}), kv=kv)


def test_the_probe_finds_what_the_last_state_holds(tmp_path: Path, llama_folder: Path) -> None:
    """The label is on which side of a plane the last state lies."""
    model, data = tiny_model("llama"), planted(640)
    states = torch.stack(
        [
            model.base_model(torch.tensor([e.prefix_token_ids])).last_hidden_state[0, -1]
            for e in data
        ]
    )
    along = states @ torch.randn(32, generator=torch.Generator().manual_seed(3))
    right = along > along.median()
    data = [
        e.model_copy(update={"soft_label": float(label)})
        for e, label in zip(data, right.tolist(), strict=True)
    ]
    spec = run(tmp_path / "adapter", llama_folder, SHORT, data=data)
    assert spec.probe.validation.within_auroc > 0.95
    probe = load_adapter(tmp_path / "adapter", llama_folder).probe
    assert probe is not None
    assert ((probe(states) > 0) == right).float().mean() > 0.95


def test_a_loss_that_is_not_finite_overwrites_nothing(tmp_path: Path, llama_folder: Path) -> None:
    out = tmp_path / "adapter"
    run(out, llama_folder, SHORT.model_copy(update={"epochs": 1}))
    old = content(out)
    with pytest.raises(TrainingFailed, match=r"became (nan|inf) in epoch 1, step \d+: a lower"):
        run(out, llama_folder, SHORT.model_copy(update={"learning_rate": 1e38}))
    assert content(out) == old


def test_it_stops_early(tmp_path: Path, llama_folder: Path) -> None:
    recipe = SHORT.model_copy(update={"epochs": 9, "patience": 1, "learning_rate": 0.5})
    spec = run(tmp_path / "adapter", llama_folder, recipe)
    epochs = spec.training.epochs
    assert len(epochs) == spec.training.best_epoch + 2 < 9
    assert spec.validation == epochs[-2].validation


def test_bfloat16_base(tmp_path: Path, llama_folder: Path) -> None:
    spec = run(tmp_path / "adapter", llama_folder, SHORT.model_copy(update={"dtype": "bfloat16"}))
    assert spec.handshake.dtype == "bfloat16"
    tensors = load_adapter(tmp_path / "adapter", llama_folder).adapter.parameters()
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_what_cannot_be_trained_on(tmp_path: Path, llama_folder: Path) -> None:
    out, data = tmp_path / "adapter", planted(40)
    with pytest.raises(InputError, match="training part cannot be learned from: every label is 1"):
        same = [e.model_copy(update={"soft_label": 1.0}) for e in data]
        run(out, llama_folder, data=same)
    with pytest.raises(InputError, match="validation part cannot be learned from: it is empty"):
        run(out, llama_folder, data=data, validation=[])
    with pytest.raises(InputError, match="problem p3 is both in training and in validation"):
        run(out, llama_folder, data=data, validation=data[25:26])
    with pytest.raises(ModelError, match="banned in generation"):
        bad = [*data, data[0].model_copy(update={"prefix_token_ids": (2, 36)})]
        run(out, llama_folder, data=bad)
    with pytest.raises(ModelError, match="id 77 is beyond"):
        run(out, llama_folder, QUICK.model_copy(update={"stop_token_ids": (77,)}), data=data)
    with pytest.raises(ModelError, match=r"tokenizer in .* cannot be loaded"):
        run(out, llama_folder, QUICK.model_copy(update={"stop_token_ids": None}), data=data)
    with pytest.raises(ModelError, match="not a model folder"):
        run(out, tmp_path, data=data)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        run(out, llama_folder, on_epoch=lambda _: pytest.fail("it began to train"))


def test_recipes() -> None:
    paper = make_recipe("paper", {"epochs": 3, "seed": None})
    assert (paper.rank, paper.targets, paper.learning_rate) == (128, "all-linear", 2e-5)
    assert (paper.epochs, paper.seed, paper.dtype) == (3, 0, "bfloat16")
    with pytest.raises(ConfigError, match="no preset 'papre'"):
        make_recipe("papre", {})
    with pytest.raises(ConfigError, match=r"schedule = 'linear': .*'cosine' or 'constant'"):
        make_recipe("embedded", {"schedule": "linear"})
    cosine = Recipe(warmup_steps=10, learning_rate=1.0)
    rates = [cosine.learning_rate_at(step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5) and rates[110] == pytest.approx(0.0)
    constant = cosine.model_copy(update={"schedule": "constant"})
    assert constant.learning_rate_at(99, 110) == 1.0


def test_the_summary_holds_no_times(tmp_path: Path, llama_folder: Path) -> None:
    run(tmp_path / "adapter", llama_folder, SHORT)
    spec = read_spec(tmp_path / "adapter")
    assert spec.training is not None and spec.training.num_examples + 48 == 320
    assert spec.training.num_problems == 34
