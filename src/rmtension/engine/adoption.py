"""A reward model that was trained elsewhere: checked, then linked to where training would have put it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from rmtension.base.errors import UserError
from rmtension.base.files import fingerprint, replacing, write_checksums
from rmtension.engine.reward_model import load_config, load_reward_model, load_tokenizer
from rmtension.engine.self_check import check_ending, check_score, check_states
from rmtension.study.inputs import model_files


def check_backbone(folder: Path, model: Any, backbone: Path) -> None:
    """UserError where statistics of change could not set the model beside `backbone`."""
    with torch.device("meta"):
        base = AutoModel.from_config(load_config(backbone)).state_dict()
    for name, tensor in model.base_model.state_dict().items():
        expected = tuple(base[name].shape) if name in base else "none"
        if tuple(tensor.shape) != expected:
            raise UserError(f"{folder}: tensor {name} is {tuple(tensor.shape)}, in the backbone {expected}")
    if not load_tokenizer(backbone).get_vocab().items() <= load_tokenizer(folder).get_vocab().items():
        raise UserError(f"{folder}: its tokenizer gives other ids than the backbone's")


def check(folder: Path, backbone: Path) -> None:
    """UserError with one line where `folder` is no reward model that can stand beside those trained here."""
    for file in ("config.json", "tokenizer_config.json"):
        if not (folder / file).exists():
            raise UserError(f"{folder}: {file} is missing")
    config, base = load_config(folder), load_config(backbone)
    if config.num_labels != 1:
        raise UserError(f"{folder}: {config.num_labels} labels; a reward model has one")
    if config.model_type != base.model_type:
        raise UserError(f"{folder}: model family '{config.model_type}', but the backbone's is '{base.model_type}'")
    model = load_reward_model(folder, torch.device("cpu"))
    check_backbone(folder, model, backbone)
    tokenizer = load_tokenizer(folder)
    check_states(folder, model, tokenizer)
    check_ending(folder, tokenizer, model.config.pad_token_id)
    check_score(folder, model, tokenizer)


def adopt_reward_model(folder: Path, backbone: Path, output: Path, environment: dict[str, str]) -> None:
    """Check `folder` and link its files into the folder `output`, where provenance.json says where they come from."""
    check(folder, backbone)
    files = model_files(folder)
    provenance = {
        "adopted": str(folder),
        "origins": {"reward_model": fingerprint(*files), "backbone": fingerprint(*sorted(backbone.iterdir()))},
        "environment": environment,
    }
    with replacing(output) as temporary:
        temporary.mkdir()
        for file in files:
            (temporary / file.name).symlink_to(file.resolve())
        write_checksums(temporary)
        (temporary / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
