"""A model checks itself before it is used: wherever the packed form computes something else, that is one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tiny_models import save_backbone, two_families
from tokenizers.processors import TemplateProcessing
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    set_seed,
)

from rmtension.base.errors import UserError
from rmtension.engine import self_check
from rmtension.engine.adoption import adopt_reward_model
from rmtension.engine.architectures import ARCHITECTURES
from rmtension.engine.attention import PACKED, packed_attention
from rmtension.engine.backbones import prepare_backbone
from rmtension.engine.packing import Batch, Packed, Tokens, collate, pack
from rmtension.engine.reward_model import load_backbone, load_tokenizer, new_reward_model, save_reward_model
from rmtension.study.models import FolderModel, MadeModel

CPU = torch.device("cpu")
OFF = r"\w+ of transformers \S+ is not itself in the packed form \(states of a text are off by \S+ of their size\): "

MADE = {
    "kind": "made", "layers": 2, "width": 16, "heads": 2, "neurons": 20, "vocabulary": 300,
    "pretraining": {"texts": 20, "epochs": 1},
}  # fmt: skip


@pytest.fixture
def backbone(family: str, tmp_path: Path) -> Path:
    save_backbone(family, tmp_path / "backbone")
    return tmp_path / "backbone"


def prepare(folder: Path) -> None:
    prepare_backbone(FolderModel(kind="pretrained", path=folder.name), str(folder.parent), folder.parent / "new")


def refused(folder: Path, message: str) -> Any:
    return pytest.raises(UserError, match=rf"\A{folder}: {message}[^\n]*\Z")


def test_a_sound_model_is_off_by_rounding_alone(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of what is let through; and it comes out of the check as it went in."""
    monkeypatch.setattr(self_check, "NOISE", self_check.NOISE / 20)
    model, tokenizer = load_backbone(backbone, CPU), load_tokenizer(backbone)
    before = {name: value.data_ptr() for name, value in model.state_dict().items()}
    self_check.check_states(backbone, model, tokenizer)
    assert model.config._attn_implementation == PACKED
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == before


def test_probes_are_as_long_as_is_cheap_and_their_batch_longer_than_a_text_may_be() -> None:
    dialogue = np.arange(7)
    for positions, weights, length in [(2048, 10**5, 512), (300, 10**5, 300), (2048, 360 * 10**6, 190), (9, 1, 9),
                                       (2048, 10**10, 64), (1, 1, 1)]:  # fmt: skip
        model = Mock(config=LlamaConfig(max_position_embeddings=positions), **{"num_parameters.return_value": weights})
        texts = self_check.probes(dialogue, model)
        assert max(map(len, texts)) == length
        assert len(pack(texts[:1], texts[1:2])) + len(texts[2]) > length
        assert length < 4 or 0 < (pack(texts[:1], texts[1:2]).segments == 0).sum() < length


# --- the packed form is spoilt ----------------------------------------------------------------------------------


def positions_from_naught(chosen: Sequence[Tokens], rejected: Sequence[Tokens]) -> Packed:
    """A candidate's own tokens are counted as if nothing stood before them."""
    packed = pack(chosen, rejected)
    starts = np.searchsorted(packed.segments, packed.segments)
    return replace(packed, positions=np.arange(len(packed)) - starts)


def ends_before_the_last(comparisons: Sequence[Packed], index: Sequence[int]) -> Batch:
    batch = collate(comparisons, index)
    return replace(batch, end=batch.end - 1)


def all_in_one(comparisons: Sequence[Packed], index: Sequence[int]) -> Batch:
    """Every token sees all before it: of its siblings, and of other comparisons."""
    batch = collate(comparisons, index)
    every = torch.arange(len(batch.tokens))
    return replace(batch, texts=[every[None]], place=every)


def neighbours(comparisons: Sequence[Packed], index: Sequence[int]) -> Batch:
    """A comparison sees the one before it; within each all is right."""
    batch = collate(comparisons, index)
    lone = int(batch.end[1]) + 1
    every = torch.arange(len(batch.tokens))
    place = torch.cat([batch.place[:lone], sum(map(torch.numel, batch.texts)) + every[lone:]])
    return replace(batch, texts=[*batch.texts, every[None]], place=place)


SPOILT = {
    "positions": ("pack", positions_from_naught),
    "ends": ("collate", ends_before_the_last),
    "siblings": ("collate", all_in_one),
    "neighbours": ("collate", neighbours),
}


@two_families
@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_packed_form_is_one_line(fault: str, backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, *SPOILT[fault])
    with refused(backbone, OFF):
        prepare(backbone)
    assert not (backbone.parent / "new").exists()


@two_families
def test_a_release_that_loses_the_batch_on_its_way_is_one_line(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where keywords of a model's call no longer come to attention; of reward models and made backbones too."""

    def without_batch(*states: Any, packed: Batch | None = None, **options: Any) -> Any:
        return packed_attention(*states, **options)

    reward_model = backbone.parent / "reward_model"
    save_reward_model(new_reward_model(backbone, 0, 0.5), load_tokenizer(backbone), reward_model)
    made = MADE | {"family": json.loads((backbone / "config.json").read_text())["model_type"]}
    prepare_backbone(MadeModel.model_validate(made), "", backbone.parent / "made")
    monkeypatch.setitem(AttentionInterface._global_mapping, PACKED, without_batch)
    with refused(backbone, OFF):
        prepare(backbone)
    with refused(reward_model, OFF):
        adopt_reward_model(reward_model, backbone, backbone.parent / "adopted", {})
    assert not (backbone.parent / "adopted").exists()
    with pytest.raises(UserError, match=rf"\Amade backbone of the family '{made['family']}': {OFF}"):
        prepare_backbone(MadeModel.model_validate(made), "", backbone.parent / "another")


# --- the model is odd -------------------------------------------------------------------------------------------


def configure(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_settings_that_the_packed_form_does_not_know_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    save_backbone("qwen2", folder)
    prepare(folder)
    configure(folder, is_causal=False)
    with refused(folder, OFF):
        prepare(folder)


@pytest.mark.parametrize("window", [3, 99, 1000])
def test_a_window_that_is_lost_is_one_line(window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a release that no longer asks for masks, for example; of windows longer than any probe, too."""
    folder, reads = tmp_path / "backbone", FolderModel(kind="pretrained", path="backbone")
    save_backbone("qwen2", folder)
    configure(folder, use_sliding_window=True, sliding_window=window, layer_types=["sliding_attention"] * 3)
    prepare(folder)
    model = load_backbone(folder, CPU)
    self_check.check_states(folder, model, load_tokenizer(folder))
    assert model.config.sliding_window == window
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, PACKED, lambda **_: None)
    with refused(folder, OFF):
        prepare_backbone(reads, str(tmp_path), tmp_path / "another")


def test_a_soft_cap_that_is_lost_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_cap(*states: Any, softcap: float | None = None, **options: Any) -> Any:
        return packed_attention(*states, **options)

    folder = tmp_path / "backbone"
    save_backbone("gemma2", folder)
    prepare(folder)
    monkeypatch.setitem(AttentionInterface._global_mapping, PACKED, without_cap)
    with refused(folder, OFF):
        prepare_backbone(FolderModel(kind="pretrained", path="backbone"), str(tmp_path), tmp_path / "another")


def test_a_setting_that_breaks_in_a_forward_pass_alone_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    save_backbone("gpt_neox", folder)
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 5.0}
    configure(folder, rope_parameters=rope)
    with refused(folder, r"its model cannot be used \('rope_parameters' in config\.json: .*\); correct it"):
        prepare(folder)
    save_backbone("llama", folder)
    configure(folder, rope_parameters={"rope_type": "linear", "factor": 0.0, "rope_theta": 1e4})
    with refused(folder, "its states of a text are not finite; give it whole weights and settings"):
        prepare(folder)


def test_a_family_that_reads_distances_in_the_sequence_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ALiBi, of which an adapter knows nothing: distances in the packed sequence are not those in a text."""
    folder = tmp_path / "backbone"
    save_backbone("llama", folder)
    set_seed(0)
    BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=16, n_layer=2, n_head=2)).save_pretrained(folder)
    configure(folder, max_position_embeddings=2048)
    monkeypatch.setitem(ARCHITECTURES, "bloom", ARCHITECTURES["llama"])
    with refused(folder, OFF):
        prepare(folder)


# --- the tokenizer is odd ---------------------------------------------------------------------------------------


def test_a_tokenizer_that_leaves_ids_to_chance_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    save_backbone("llama", folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.backend_tokenizer.model.dropout = 0.5
    with refused(folder, "its tokenizer gives a text other ids each time"):
        self_check.check_states(folder, load_backbone(folder, CPU), tokenizer)


def test_a_backbone_whose_texts_end_in_padding_is_one_line(tmp_path: Path) -> None:
    """transformers would score the token before the last, wherever the reward model is used later."""
    folder = tmp_path / "backbone"
    save_backbone("llama", folder)
    tokenizer = load_tokenizer(folder)
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    prepare(folder)
    tokenizer.pad_token = end
    tokenizer.save_pretrained(folder)
    with refused(folder, "its tokenizer ends a text with the padding token, .*; name another pad_token"):
        prepare_backbone(FolderModel(kind="pretrained", path=folder.name), str(tmp_path), tmp_path / "another")
