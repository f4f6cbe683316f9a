"""Backbones of every family: made, turned into a reward model, saved and loaded again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import torch
from tiny_models import CONFIGS, two_families
from transformers import AutoModelForSequenceClassification, GPT2Config

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, sha256, write_checksums
from rmtension.data.synthetic import corpus
from rmtension.engine import backbones
from rmtension.engine.activations import observed_neurons, reward_model_statistics
from rmtension.engine.architectures import ARCHITECTURES, by_neuron, layer_sizes, neuron_weights, projection_modules
from rmtension.engine.backbones import make_backbone, prepare_backbone, require_sizes
from rmtension.engine.packing import collate
from rmtension.engine.reward_model import (
    load_backbone,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    pack_comparisons,
    save_reward_model,
    score,
)
from rmtension.engine.training import TrainingRun, train_reward_model
from rmtension.study.models import FolderModel, MadeModel
from rmtension.study.scorings import Ablation
from rmtension.study.stages import Activations, Training

CPU = torch.device("cpu")
MADE = {
    "kind": "made", "layers": 2, "width": 16, "heads": 2, "neurons": 20, "vocabulary": 300,
    "pretraining": {"texts": 20, "epochs": 1},
}  # fmt: skip


def test_every_family_is_made_and_tested() -> None:
    made = set(get_args(MadeModel.model_fields["family"].annotation))
    assert set(ARCHITECTURES) - {"gemma3"} == set(CONFIGS) == made  # that one is tested in test_pictures.py


def same_weights(one: Any, other: Any) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_made_backbone_becomes_a_reward_model_that_is_saved_and_loaded(family: str, tmp_path: Path) -> None:
    make_backbone(MadeModel.model_validate(MADE | {"family": family}), tmp_path / "backbone")
    tokenizer = load_tokenizer(tmp_path / "backbone")
    model = new_reward_model(tmp_path / "backbone", seed=3, head_deviation=0.02)
    assert layer_sizes(model.config) == (2, 20, 2)
    assert projection_modules(model)[0].weight.shape == (16, 16)
    assert same_weights(load_backbone(tmp_path / "backbone", CPU), model.base_model)

    save_reward_model(model, tokenizer, tmp_path / "model")
    texts = ["\n\nHuman: How do I plant a tree?\n\nAssistant: Dig a hole", "\n\nHuman: How do I cook?"]
    batch = collate(pack_comparisons(tokenizer, [texts[:1]], [texts[1:]], 512)[1], [0])
    assert same_weights(load_reward_model(tmp_path / "model", CPU), model)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    together = plain(**load_tokenizer(tmp_path / "model")(texts, return_tensors="pt", padding=True)).logits[:, 0]
    torch.testing.assert_close(together, score(model, batch), atol=1e-6, rtol=0)


def test_the_weights_of_a_neuron_are_those_that_it_lives_by(family: str) -> None:
    model = AutoModelForSequenceClassification.from_config(CONFIGS[family]).eval()
    with torch.no_grad():
        for name, bias in model.named_parameters():  # where there are any, they are no zeros
            bias += 0.1 * name.endswith("bias")
    tokens, layer, neuron = torch.arange(2, 9)[None], 1, 5

    def values() -> torch.Tensor:
        found: list[torch.Tensor] = []
        with observed_neurons(model, lambda at, value: found.append(value) if at == layer else None):
            model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        return found[0].reshape(-1, found[0].shape[-1]).detach()

    before, held = values(), neuron_weights(model)[layer]
    mlp = {part.data_ptr() for name, part in model.named_parameters() if f".{layer}.mlp" in name}
    assert len(mlp - {part.data_ptr() for part, _ in held}) <= 1  # the bias of what reads them
    with torch.no_grad():
        for weight, axis in held:
            assert by_neuron(weight, axis, before.shape[-1]).shape[0] == before.shape[-1]
            places = torch.arange(neuron, weight.shape[axis], before.shape[-1])
            weight.index_fill_(axis, places, 0.0)
    after = values()
    others = [i for i in range(before.shape[-1]) if i != neuron]
    assert (after[:, neuron] == 0).all() and not (before[:, neuron] == 0).any()
    torch.testing.assert_close(after[:, others], before[:, others])


@two_families
def test_a_made_backbone_learns_the_tokens_that_it_will_read(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[torch.Tensor] = []
    monkeypatch.setattr(backbones, "pretrain", lambda _network, blocks, *_settings: learnt.append(blocks))
    make_backbone(MadeModel.model_validate(MADE | {"family": family, "vocabulary": 800}), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    read = [token for ids in tokenizer(corpus(20, 0))["input_ids"] for token in (*ids, tokenizer.eos_token_id)]
    assert learnt[0].flatten().tolist() == read[: learnt[0].numel()]


def test_texts_longer_than_the_model_reads_are_left_out_and_counted(tmp_path: Path) -> None:
    backbone, pairs, model = tmp_path / "backbone", tmp_path / "pairs.parquet", tmp_path / "model"
    make_backbone(MadeModel.model_validate(MADE | {"family": "gpt2"}), backbone)
    write_checksums(backbone)
    texts = pl.DataFrame({"comparison_id": ["a", "b"], "chosen": ["good", "long " * 600], "rejected": ["bad", "bad"]})
    texts.with_columns(source=pl.lit("s"), orientation=pl.lit("helpful")).write_parquet(pairs)
    settings = Training(max_tokens=10_000)
    run = TrainingRun(backbone, pairs, pairs, code=[], settings=settings, epochs=1, seed=0, budget=999, threads=1)
    train_reward_model(run, tmp_path / "checkpoint", model, environment={})
    counts = json.loads((model / "provenance.json").read_text())["pairs"]
    assert (counts["train"], counts["train_left_out"]) == (1, 1)
    found = reward_model_statistics(model, backbone, pairs, Activations(), max_tokens=10_000, budget=999, device=CPU)
    assert found.neurons["n_tokens"].max() == len(load_tokenizer(backbone)("good")["input_ids"])


def test_weights_that_checksums_stand_for_are_not_read_again(tmp_path: Path) -> None:
    backbone, pairs = tmp_path / "backbone", tmp_path / "pairs.parquet"
    pairs.touch()
    backbone.mkdir()
    (backbone / CHECKSUMS).write_text("{}")
    (backbone / "model.safetensors").symlink_to("a disk that is not there")
    run = TrainingRun(backbone, pairs, pairs, [], Training(), epochs=1, seed=0, budget=9, threads=1)
    whole = hashlib.sha256(bytes.fromhex(sha256(backbone / CHECKSUMS))).hexdigest()
    assert run.origins()["backbone"] == whole


def test_looks_at_drawn_pairs_are_looks_at_a_file_of_them(tmp_path: Path) -> None:
    backbone, pairs, few = tmp_path / "backbone", tmp_path / "pairs.parquet", tmp_path / "few.parquet"
    make_backbone(MadeModel.model_validate(MADE | {"family": "llama"}), backbone)
    write_checksums(backbone)
    rows = [{"comparison_id": str(i), "chosen": f"good {i}", "rejected": f"{i} bad"} for i in range(20)]
    frame = pl.DataFrame(rows).with_columns(source=pl.lit("s"), orientation=pl.lit("helpful"))
    frame.write_parquet(pairs)
    which = np.random.default_rng(7).permutation(20)[:5]
    frame[sorted(which.tolist())].write_parquet(few)

    def logged(validation: Path, name: str, **settings: int) -> pl.DataFrame:
        looks = Training(pairs_per_step=4, evaluation_interval=2, **settings)
        run = TrainingRun(backbone, pairs, validation, [], looks, epochs=1, seed=7, budget=999, threads=1)
        train_reward_model(run, tmp_path / "checkpoint", tmp_path / name, environment={})
        assert json.loads((tmp_path / name / "provenance.json").read_text())["pairs"]["train"] == 20
        return pl.read_parquet(tmp_path / name / "training.parquet").drop("seconds")

    drawn = logged(pairs, "drawn", evaluation_pairs=5)
    assert drawn.equals(logged(few, "few")) and not drawn.equals(logged(pairs, "all"))


def test_a_backbone_is_cut_off_behind_its_first_layers(family: str, tmp_path: Path) -> None:
    make_backbone(MadeModel.model_validate(MADE | {"family": family, "layers": 3}), tmp_path / "whole")
    prepare_backbone(FolderModel(kind="pretrained", path="whole", layers=2), str(tmp_path), tmp_path / "short")
    whole, short = load_backbone(tmp_path / "whole", CPU), load_backbone(tmp_path / "short", CPU)
    assert layer_sizes(short.config) == (2, 20, 2)
    norm = {"gpt2": "ln_f", "gpt_neox": "final_layer_norm"}.get(family, "norm")
    tokens = torch.arange(2, 40)[None]
    with torch.no_grad():
        states = whole(tokens, output_hidden_states=True).hidden_states
        expected = getattr(whole, norm)(states[2])
        torch.testing.assert_close(short(tokens).last_hidden_state, expected, atol=1e-6, rtol=0)
    assert same_weights(new_reward_model(tmp_path / "short", seed=3, head_deviation=0.02).base_model, short)
    with pytest.raises(UserError, match=r"source.layers = 4: it has 3$"):
        prepare_backbone(FolderModel(kind="pretrained", path="whole", layers=4), str(tmp_path), tmp_path / "long")


def test_a_folder_of_an_unknown_family_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin/config.json").write_text(json.dumps({"model_type": "gpt5"}))
    with pytest.raises(UserError, match=r"'gpt5' \(known: gemma, .*\); docs/adding-a-model.md says how to add one$"):
        prepare_backbone(FolderModel(kind="pretrained", path="origin"), str(tmp_path), tmp_path / "backbone")
    (tmp_path / "origin/config.json").write_text(json.dumps({"model_type": "qwen3_5_text"}))
    with pytest.raises(UserError, match=r"'qwen3_5_text': its layers hand a state .*: no adapter is possible$"):
        prepare_backbone(FolderModel(kind="pretrained", path="origin"), str(tmp_path), tmp_path / "backbone")


@pytest.mark.parametrize(("ablation", "said"), [
    ({"sweep": ["999999n"]}, "ablation.sweep: 999999n: models.mine has 60 neurons: give a smaller count"),
    ({"percent": 0.5}, "ablation.percent: 0.5 % of the 60 neurons of models.mine are none: give a greater percent"),
    ({"sweep": [10, "60n", 100]}, ""),
    ({"sweep": ["999999n"], "sweep_benchmarks": []}, ""),
])  # fmt: skip
def test_sets_that_no_backbone_can_have_are_refused_with_it(
    ablation: dict[str, Any], said: str, tmp_path: Path
) -> None:
    GPT2Config(n_layer=3, n_inner=20, n_embd=8, n_head=2).save_pretrained(tmp_path)
    settings = Ablation.model_validate({"sweep_benchmarks": ["hh-test"]} | ablation)
    if not said:
        return require_sizes(tmp_path, "mine", settings.percent, settings.swept)
    with pytest.raises(UserError) as raised:
        require_sizes(tmp_path, "mine", settings.percent, settings.swept)
    assert str(raised.value) == said
    return None
