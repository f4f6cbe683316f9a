"""Pickled weights become safetensors: tensors alone, the same to the last bit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import random_model
from torch import Tensor
from typer.testing import CliRunner

from rmtension.base.errors import UserError
from rmtension.cli import app
from rmtension.engine.conversion import convert
from rmtension.engine.reward_model import load_reward_model

SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Tensor]:
    """Of a reward model in bfloat16, whose settings lie in tmp_path."""
    model = random_model("llama").bfloat16()
    model.config.save_pretrained(tmp_path)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        t.dtype == found[k].dtype and torch.equal(t, found[k]) for k, t in expected.items()
    )


def test_one_file_becomes_one(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "pytorch_model.bin")
    said = CliRunner().invoke(app, ["convert", str(tmp_path)], catch_exceptions=False)
    assert said.stdout == f"written: {tmp_path / 'model.safetensors'}\n"
    assert same(load_file(tmp_path / "model.safetensors"), weights)
    loaded = load_reward_model(tmp_path, torch.device("cpu"))
    assert torch.equal(loaded.score.weight, weights["score.weight"].float())


def test_shards_become_shards_with_an_index(weights: dict[str, Tensor], tmp_path: Path) -> None:
    names = sorted(weights)
    parts = dict(zip(SHARDS, (names[:5], names[5:]), strict=True))
    for file, part in parts.items():
        torch.save({name: weights[name] for name in part}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert [file.name for file in convert(tmp_path)] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    for file, part in parts.items():
        written = tmp_path / file.replace("pytorch_model", "model").replace(".bin", ".safetensors")
        assert same(load_file(written), {name: weights[name] for name in part})
    load_reward_model(tmp_path, torch.device("cpu"))


def test_tensors_that_share_memory_are_each_written_whole(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"whole": whole, "tied": whole, "part": whole[:, 1:]}, tmp_path / "pytorch_model.bin")
    convert(tmp_path)
    assert same(load_file(tmp_path / "model.safetensors"), {"whole": whole, "tied": whole, "part": whole[:, 1:]})


class Sprung:
    """Code that a pickle runs where it is loaded as one."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.file,)  # type: ignore[return-value]


@pytest.mark.parametrize("pickled", ["trap", "list", "number", "cut", "nothing", "lost", "there"])
def test_what_is_not_tensors_is_one_line_and_nothing_is_written(pickled: str, tmp_path: Path) -> None:
    file, line = tmp_path / "pytorch_model.bin", "pytorch_model.bin: "
    match pickled:
        case "trap":
            file.write_bytes(pickle.dumps({"a": Sprung(tmp_path / "sprung")}))
            line += "more than tensors"
        case "list":
            torch.save([torch.ones(2)], file)
            line += "not a mapping"
        case "number":
            torch.save({"a": torch.ones(2), "epoch": 3}, file)
            line += "not a mapping"
        case "cut":
            torch.save({"a": torch.ones(2)}, file)
            file.write_bytes(file.read_bytes()[:-40])
            line += "it cannot be read"
        case "nothing":
            line = "nothing to convert"
        case "lost":
            torch.save({"a": torch.ones(2)}, tmp_path / SHARDS[0])
            index = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
            (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
            line = f"{SHARDS[1]}, which pytorch_model.bin.index.json names, is missing"
        case "there":
            torch.save({"a": torch.ones(2)}, file)
            (tmp_path / "model.safetensors").touch()
            line = "model.safetensors is there already"
    before = {one.name for one in tmp_path.iterdir()}
    with pytest.raises(UserError, match=line) as raised:
        convert(tmp_path)
    assert "\n" not in str(raised.value)
    assert {one.name for one in tmp_path.iterdir()} == before
