"""One small adapter for each family of backbones: where its layers, neurons and attention heads are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from rmtension.errors import UserError


@dataclass(frozen=True)
class Architecture:
    """What the engine must know of a family.

    A neuron's value is the output of its layer's activation function (docs/methods.md, section 1): GPT-2 `mlp.act`;
    gated MLPs `act_fn(gate_proj x)`, before the product with `up_proj x`, which a zero there makes zero too.
    A head's output is its slice of what the attention's output projection reads. docs/adding-a-model.md has more.
    """

    layers: Callable[[Any], nn.ModuleList]  # backbone -> its layers, from the bottom up
    activation: Callable[[Any], nn.Module]  # layer -> its activation module
    neurons: Callable[[Any], int]  # config -> neurons of one layer
    projection: Callable[[Any], nn.Module]  # layer -> its attention's output projection, fed heads side by side


LLAMA = Architecture(
    layers=lambda backbone: backbone.layers,
    activation=lambda layer: layer.mlp.act_fn,
    neurons=lambda config: config.intermediate_size,
    projection=lambda layer: layer.self_attn.o_proj,
)
ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(
        layers=lambda backbone: backbone.h,
        activation=lambda layer: layer.mlp.act,
        neurons=lambda config: config.n_inner or 4 * config.n_embd,
        projection=lambda layer: layer.attn.c_proj,
    ),
    "gpt_neox": Architecture(
        layers=lambda backbone: backbone.layers,
        activation=lambda layer: layer.mlp.act,
        neurons=lambda config: config.intermediate_size,
        projection=lambda layer: layer.attention.dense,
    ),
    # Of the same build under the same names; their norms, biases and sizes of a head are no concern of an adapter.
    **dict.fromkeys(("llama", "olmo2", "qwen2", "qwen3"), LLAMA),
}


def architecture(family: str) -> Architecture:
    """The adapter for a family, which is the `model_type` of its models' configurations; UserError if unknown."""
    if family not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UserError(
            f"no adapter for model family '{family}' (known: {known}); docs/adding-a-model.md says how to add one"
        )
    return ARCHITECTURES[family]


def layers_of(model: Any) -> list[nn.Module]:
    """The layers, from the bottom up, of a reward model or a bare backbone."""
    return list(architecture(model.config.model_type).layers(model.base_model))


def activation_modules(model: Any) -> list[nn.Module]:
    """One activation module a layer, likewise."""
    return [architecture(model.config.model_type).activation(layer) for layer in layers_of(model)]


def projection_modules(model: Any) -> list[nn.Module]:
    """One attention output projection a layer, likewise."""
    return [architecture(model.config.model_type).projection(layer) for layer in layers_of(model)]


def layer_sizes(config: Any) -> tuple[int, int, int]:
    """Number of layers, neurons of a layer, attention heads of a layer."""
    return config.num_hidden_layers, architecture(config.model_type).neurons(config), config.num_attention_heads


def longest_text(config: Any) -> int:
    """Most tokens of a text that a model reads; one beyond a sliding window the packed form would show it whole."""
    positions: int = config.max_position_embeddings
    return min(positions, getattr(config, "sliding_window", None) or positions)
