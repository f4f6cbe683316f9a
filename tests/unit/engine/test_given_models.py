"""A reward model that is given is linked as it is, and what the study says of it goes with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_backbone, two_families

from rmtension.base.errors import UserError
from rmtension.engine.adoption import adopt_reward_model
from rmtension.engine.given_models import give_reward_model, look_at, put_reward_model
from rmtension.engine.reward_model import (
    chosen,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    not_finite,
    save_reward_model,
)
from rmtension.study.models import GivenModel


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    save_backbone(family, tmp_path / "backbone")
    model = new_reward_model(tmp_path / "backbone", 0, 0.5)
    model.config.id2label = {0: "quality"}
    save_reward_model(model, load_tokenizer(tmp_path / "backbone"), tmp_path / "rm")
    (tmp_path / "rm" / "training_args.bin").write_bytes(b"a pickle")
    return tmp_path / "rm"


def given(label: str | None = None) -> GivenModel:
    return GivenModel(kind="given", path="rm", label=label)


@two_families
def test_every_place_has_the_same_files(folder: Path, tmp_path: Path) -> None:
    place, other, said = tmp_path / "backbones/rm", tmp_path / "reward_models/rm", {"python": "3"}
    give_reward_model(given("quality"), str(tmp_path), place)
    put_reward_model(place, other, "rm", said)
    state = load_reward_model(other, torch.device("cpu")).state_dict()
    assert look_at(folder) == sum(parameter.numel() for parameter in
                                  load_reward_model(folder, torch.device("cpu")).parameters())  # fmt: skip
    assert all(torch.equal(tensor, state[name]) for name, tensor in
               load_reward_model(folder, torch.device("cpu")).state_dict().items())  # fmt: skip
    names = {file.name for file in place.iterdir()}
    assert "training_args.bin" not in names
    assert {file.name for file in other.iterdir()} == names | {"provenance.json"}
    for name in names - {"checksums.json", "given.json"}:
        assert (place / name).samefile(folder / name) and (other / name).samefile(folder / name)
    assert json.loads((other / "given.json").read_text())["label"] == "quality"
    assert (place / "checksums.json").read_bytes() == (other / "checksums.json").read_bytes()
    unlabelled = tmp_path / "unlabelled"
    give_reward_model(given(), str(tmp_path), unlabelled)
    assert (unlabelled / "checksums.json").read_bytes() != (place / "checksums.json").read_bytes()


@two_families
def test_what_a_study_says_of_it_is_not_lost_in_another(folder: Path, tmp_path: Path) -> None:
    give_reward_model(given("quality"), str(tmp_path), tmp_path / "given")
    put_reward_model(tmp_path / "given", tmp_path / "put", "rm", {})
    for there in ("given", "put"):
        with pytest.raises(UserError, match=f"^{tmp_path / there}: given to another study, which says in given.json"):
            adopt_reward_model(tmp_path / there, tmp_path / "backbone", tmp_path / "adopted", {})
    adopt_reward_model(folder, tmp_path / "backbone", tmp_path / "adopted", {})


@two_families
def test_a_project_may_be_moved(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    folder.rename("rm")
    place, other = Path("results/backbones/rm"), Path("results/reward_models/rm")
    give_reward_model(given("quality"), ".", place)
    put_reward_model(place, other, "rm", {})
    monkeypatch.chdir((tmp_path / "project").rename(tmp_path / "moved"))
    assert chosen(other).label == "quality"
    for linked in (place, other):
        load_reward_model(linked, torch.device("cpu"))
        assert all(file.resolve().is_relative_to(tmp_path / "moved") for file in linked.iterdir())


@two_families
def test_nobody_is_told_to_train_what_is_given(folder: Path, tmp_path: Path) -> None:
    assert "its rewards are not finite: train it anew" in str(not_finite(folder, "its rewards"))
    give_reward_model(given(), str(tmp_path), tmp_path / "given")
    assert str(not_finite(tmp_path / "given", "x")) == f"{tmp_path / 'given'}: x are not finite: leave it out"


@two_families
def test_a_label_that_it_has_not_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rm: no label 'qualty'; did you mean 'quality'\?$"):
        give_reward_model(given("qualty"), str(tmp_path), tmp_path / "output")
    assert not (tmp_path / "output").exists()


@two_families
@pytest.mark.parametrize(
    ("tensor", "line"), [("score.weight", "no head among its tensors"), ("not.there", r"its head \(not\.there, score")]
)
def test_weights_that_are_not_those_of_the_settings_are_seen_unread(folder: Path, tensor: str, line: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    if tensors.pop(tensor, None) is None:
        tensors[tensor] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=line):
        look_at(folder)
