"""A merged reward model is the average of its parts, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_models import random_model, two_families

from rmtension.base.errors import UserError
from rmtension.engine.merging import merge_reward_models
from rmtension.engine.reward_model import load_reward_model, load_tokenizer, save_reward_model


@pytest.fixture
def other(folder: Path, family: str, tmp_path: Path) -> Path:
    save_reward_model(random_model(family, seed=1), load_tokenizer(folder), tmp_path / "other")
    for part in (folder, tmp_path / "other"):
        (part / "checksums.json").write_text(part.name)
    return tmp_path / "other"


@two_families
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7), (1.0, 0.0)])
def test_each_weight_is_the_average_in_float64_rounded_once(
    folder: Path, other: Path, weights: tuple[float, float], tmp_path: Path
) -> None:
    merge_reward_models({"a": (folder, weights[0]), "b": (other, weights[1])}, tmp_path / "merged", {"python": "3"})
    one, two, merged = (load_file(part / "model.safetensors") for part in (folder, other, tmp_path / "merged"))
    assert merged.keys() == one.keys() == two.keys() and "score.weight" in merged
    for name, values in merged.items():
        average = weights[0] * one[name].astype(np.float64) + weights[1] * two[name].astype(np.float64)
        assert values.tobytes() == average.astype(np.float32).tobytes(), name
        assert weights[1] == 0 or not np.array_equal(values, one[name])
    load_reward_model(tmp_path / "merged", torch.device("cpu"))
    assert load_tokenizer(tmp_path / "merged").get_vocab() == load_tokenizer(folder).get_vocab()
    said = json.loads((tmp_path / "merged/provenance.json").read_text())
    assert (said["method"], said["parts"], said["weights"]) == ("merged", ["a", "b"], [*weights])


@two_families
def test_parts_of_other_shapes_are_one_line(folder: Path, other: Path, family: str, tmp_path: Path) -> None:
    """As of a reward model trained elsewhere, with embeddings of further tokens."""
    wide = random_model(family, seed=1)
    wide.resize_token_embeddings(wide.config.vocab_size + 3)
    save_reward_model(wide, load_tokenizer(folder), tmp_path / "wide")
    with pytest.raises(UserError, match=r"wide: \S+ has the shape \(\d+, \d+\), in .*rm \(\d+, \d+\): the two cannot"):
        merge_reward_models({"a": (folder, 0.5), "b": (tmp_path / "wide", 0.5)}, tmp_path / "merged", {})
    assert not (tmp_path / "merged").exists()


@two_families
def test_parts_with_other_tokenizers_are_one_line(folder: Path, other: Path, tmp_path: Path) -> None:
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace('"w1"', '"another"'))
    with pytest.raises(UserError, match=r"other: its tokenizer gives other ids than that of .*rm: the two cannot"):
        merge_reward_models({"a": (folder, 0.5), "b": (other, 0.5)}, tmp_path / "merged", {})
    assert not (tmp_path / "merged").exists()
