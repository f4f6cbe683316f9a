"""What is saved says in transformers 4's names what it says in version 5's, or nothing that version 4 would accept.

That both versions score alike is tested in tests/interchange.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import CONFIGS, random_model
from tokenizers import pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast

from rmtension.data import synthetic
from rmtension.engine.backbones import train_tokenizer
from rmtension.engine.reward_model import save_reward_model, save_tokenizer

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0}
# Of 64 positions: what version 5 holds, and what version 4 is told; None stands for the same.
ROPES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "linear": ({"rope_type": "linear", "factor": 2}, None),
    "its older name": (
        {"type": "yarn", "rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 2.0},
    ),
    "llama3": (LLAMA3, None),
    "yarn": (YARN | {"original_max_position_embeddings": 16, "beta_fast": 16.0}, None),
    # Version 4 would divide 64 by 64.
    "yarn of all positions": (YARN | {"original_max_position_embeddings": 64}, YARN),
    # Version 4 would divide 64 by 32.
    "yarn of another factor": (YARN | {"original_max_position_embeddings": 32}, {}),
    "yarn of no whole dimensions": (YARN | {"original_max_position_embeddings": 16, "truncate": False}, {}),
    "a kind of version 5": ({"rope_type": "proportional", "factor": 2.0}, {}),
}


def saved(family: str, folder: Path, **changes: Any) -> dict[str, Any]:
    model, tokenizer = random_model(family, **changes), train_tokenizer(synthetic.corpus(20, 0), 300)
    save_reward_model(model, tokenizer, folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    held, again = (getattr(c, "rope_parameters", {}) for c in (model.config, AutoConfig.from_pretrained(folder)))
    held.pop("type", None)
    assert again == held
    return config


SLIDING_BASES = {"gemma3_text": 70.0, "olmo3": 500.0}  # of families whose kinds of layers have positions of their own


def of_layers(family: str, rope: dict[str, Any], **sliding: Any) -> dict[str, Any]:
    """The rope_parameters of a configuration of a family, whose sliding layers have none scaled."""
    if family not in SLIDING_BASES:
        return rope
    unscaled = {"rope_type": "default", "rope_theta": SLIDING_BASES[family]}
    return {"full_attention": rope, "sliding_attention": unscaled | sliding}


@pytest.mark.parametrize(("rope", "older"), ROPES.values(), ids=list(ROPES))
@pytest.mark.parametrize("family", sorted(set(CONFIGS) - {"gpt2", "phi3"}))  # Phi-3 has LongRoPE or nothing
def test_scaled_positions(family: str, rope: dict[str, Any], older: dict[str, Any] | None, tmp_path: Path) -> None:
    parameters = rope | {"rope_theta": 500.0}
    if family == "gpt_neox":
        parameters["partial_rotary_factor"] = 0.5
    config = saved(family, tmp_path, rope_parameters=of_layers(family, parameters))
    assert config["rope_scaling"] == (rope if older is None else older)


def test_unscaled_positions(family: str, tmp_path: Path) -> None:
    unscaled = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}
    config = saved(family, tmp_path, **({} if family == "gpt2" else {"rope_parameters": of_layers(family, unscaled)}))
    older = (
        "rope_theta",
        "rotary_emb_base",
        "rotary_pct",
        "partial_rotary_factor",
        "rope_local_base_freq",
        "rope_scaling",
    )
    of_family = {
        "gpt2": {},
        "gpt_neox": {"rotary_emb_base": 500.0, "rotary_pct": 0.5},
        "phi3": {"rope_theta": 500.0, "partial_rotary_factor": 0.5},
        "gemma3_text": {"rope_theta": 500.0, "rope_local_base_freq": 70.0},
    }
    assert {name: config[name] for name in older if name in config} == of_family.get(family, {"rope_theta": 500.0})


@pytest.mark.parametrize(("family", "sliding"), [("gemma3_text", {"rope_type": "linear", "factor": 2.0}),
                                                 ("olmo3", {"rope_theta": 400.0})])  # fmt: skip
def test_sliding_layers_that_version_4_has_no_words_for(family: str, sliding: dict[str, Any], tmp_path: Path) -> None:
    full = {"rope_type": "default", "rope_theta": 500.0}
    assert saved(family, tmp_path, rope_parameters=of_layers(family, full, **sliding))["rope_scaling"] == {}


@pytest.mark.parametrize("before", [True, False])
def test_tokenizers(before: bool, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(synthetic.corpus(20, 0), 300)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|turn|>", "<|stop|>"]})
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=before)
    save_tokenizer(tokenizer, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "extra_special_tokens" not in settings
    of_version_4 = ("tokenizer_class", "model_input_names", "additional_special_tokens", "add_prefix_space")
    assert [settings[name] for name in of_version_4] == [
        "PreTrainedTokenizerFast", ["input_ids", "attention_mask"], ["<|turn|>", "<|stop|>"], before
    ]  # fmt: skip
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path).extra_special_tokens == ["<|turn|>", "<|stop|>"]
