"""A reward model whose weights are the average of two others', of the same backbone and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, fingerprint, replacing, write_checksums
from rmtension.engine.reward_model import load_reward_model, load_tokenizer, save_reward_model

CPU = torch.device("cpu")


@torch.no_grad()
def add_weighted(model: Any, weight: float, other: Any, other_weight: float) -> None:
    """Make each parameter of `model` the weighted sum of its own and `other`'s: in float64, rounded once to float32."""
    for own, given in zip(model.parameters(), other.parameters(), strict=True):
        own.copy_(weight * own.double() + other_weight * given.double())


def merge_reward_models(parts: Mapping[str, tuple[Path, float]], output: Path, environment: dict[str, str]) -> None:
    """Average two reward models, head too, into the folder `output`: model, tokenizer, provenance.json.

    parts: of each, by its regime, its folder and its share. UserError where their tokenizers or shapes differ.
    """
    (first, weight), (second, other_weight) = parts.values()
    tokenizer = load_tokenizer(first)
    if tokenizer.get_vocab() != load_tokenizer(second).get_vocab():
        raise UserError(f"{second}: its tokenizer gives other ids than that of {first}: the two cannot be merged")
    model, other = load_reward_model(first, CPU), load_reward_model(second, CPU)
    shapes, beside = ({name: tuple(p.shape) for name, p in one.named_parameters()} for one in (model, other))
    for name in (name for name in shapes | beside if shapes.get(name) != beside.get(name)):
        other_shape = f"{name} has the shape {beside.get(name)}, in {first} {shapes.get(name)}"
        raise UserError(f"{second}: {other_shape}: the two cannot be merged")
    add_weighted(model, weight, other, other_weight)
    provenance = {
        "method": "merged",
        "parts": [*parts],
        "weights": [weight, other_weight],
        "origins": {regime: fingerprint(folder / CHECKSUMS) for regime, (folder, _) in parts.items()},
        "environment": environment,
    }
    with replacing(output) as folder:
        save_reward_model(model, tokenizer, folder)
        write_checksums(folder)
        (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
