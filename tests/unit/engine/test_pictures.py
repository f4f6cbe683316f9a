"""A model that reads pictures, too, is of texts what its text part is, and keeps the rest as it was."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, WORDS, pairs, texts
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextForSequenceClassification,
    PreTrainedTokenizerFast,
    set_seed,
)

from rmtension.engine.ablation import Mask
from rmtension.engine.activations import activation_statistics
from rmtension.engine.architectures import layer_sizes, longest_text
from rmtension.engine.attention import PACKED
from rmtension.engine.attribution import attributions
from rmtension.engine.evaluation import candidate_scores
from rmtension.engine.learner import Learner
from rmtension.engine.repairs import Projected
from rmtension.engine.reward_model import (
    load_backbone,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    save_reward_model,
)
from rmtension.engine.self_check import check_states
from rmtension.engine.training import Trainer
from rmtension.study.stages import Training

CPU = torch.device("cpu")
SEES = ("vision_tower", "multi_modal_projector")
NOTHING = Mask(torch.zeros(3, 24, dtype=torch.bool), torch.zeros(3, 4, dtype=torch.bool))


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A Gemma 3 as published: text and pictures, with a head for tokens."""
    set_seed(0)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 8, "patch_size": 4}  # fmt: skip
    config = Gemma3Config(
        text_config=CONFIGS["gemma3_text"].to_dict(), vision_config=vision, mm_tokens_per_image=4, image_token_index=49
    )
    network = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    network.save_pretrained(tmp_path / "backbone")
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0", pad_token="w0")
    tokenizer.save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def of_text_alone(model: Any) -> Any:
    """Its text part under its head, as a model of the family that reads nothing else."""
    config = copy.deepcopy(model.config.text_config)
    config.num_labels, config.pad_token_id = 1, 0
    alone = Gemma3TextForSequenceClassification._from_config(config, attn_implementation=PACKED).eval()
    alone.model.load_state_dict(model.model.language_model.state_dict())
    alone.score.load_state_dict(model.score.state_dict())
    return alone


def test_numbers_are_those_of_the_text_part(backbone: Path) -> None:
    check_states(backbone, load_backbone(backbone, CPU), load_tokenizer(backbone))
    model = new_reward_model(backbone, 0, 0.5)
    alone, data = of_text_alone(model), pairs(9, 0)
    assert layer_sizes(model.config) == layer_sizes(alone.config) == (3, 24, 4)
    assert longest_text(model.config) == longest_text(alone.config) == 64
    mask = Mask(torch.rand(3, 24) < 0.3, torch.rand(3, 4) < 0.3)
    ours, theirs = (candidate_scores(m, data, [mask], 60, CPU) for m in (model, alone))
    np.testing.assert_array_equal(ours, theirs)
    found, expected = (activation_statistics(m, m, data, 60, CPU) for m in (model, alone))
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))
    assert attributions(model, data, 60, CPU).equals(attributions(alone, data, 60, CPU))


def test_scores_are_those_of_plain_transformers(backbone: Path, tmp_path: Path) -> None:
    save_reward_model(new_reward_model(backbone, 0, 0.5), load_tokenizer(backbone), tmp_path / "model")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    data = pairs(5, 1)
    ours = candidate_scores(load_reward_model(tmp_path / "model", CPU), data, [NOTHING], 60, CPU)[0]
    with torch.no_grad():
        theirs = [plain(text[None]).logits.item() for pair in data for text in texts(pair)]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("objectives", [None, ["one", "other"] * 5])
def test_training_moves_the_text_part_as_it_would_alone(
    backbone: Path, objectives: list[str] | None, tmp_path: Path
) -> None:
    model = new_reward_model(backbone, 0, 0.5)
    alone, before = of_text_alone(model), copy.deepcopy(model.state_dict())
    data, learner = pairs(10, 2), partial(Projected, objectives) if objectives else Learner
    for one in (model, alone):
        trainer = Trainer(one, Training(pairs_per_step=4), epochs=1, seed=0, budget=60, learner=learner)
        trainer.fit(data, data, tmp_path / "checkpoint", "key")
        (tmp_path / "checkpoint").unlink(missing_ok=True)
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if any(part in name for part in SEES))
    assert not torch.equal(after["score.weight"], before["score.weight"])
    for name, value in alone.state_dict().items():
        assert torch.equal(value, after[name.replace("model.", "model.language_model.")])
