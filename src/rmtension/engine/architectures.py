"""One small adapter for each family of backbones: where its layers, neurons and attention heads are."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING
from transformers.pytorch_utils import Conv1D

from rmtension.base.errors import UserError

Linear = nn.Linear | Conv1D


@dataclass(frozen=True)
class Architecture:
    """What the engine must know of a family.

    A neuron's value is the output of its layer's activation function (docs/methods.md, section 1): GPT-2 `mlp.act`;
    gated MLPs `act_fn(gate_proj x)`, before the product with `up_proj x`, which a zero there makes zero too.
    A head's output is its slice of what the attention's output projection reads. docs/adding-a-model.md has more.
    """

    activations: Callable[[Any], list[nn.Module]]  # backbone -> one activation module a layer
    neurons: Callable[[Any], int]  # config -> neurons of one layer
    projections: Callable[[Any], list[nn.Module]]  # backbone -> one output projection a layer, fed heads side by side
    incoming: Callable[[Any], list[list[Linear]]]  # backbone -> of each layer what its neurons' values come from
    outgoing: Callable[[Any], list[Linear]]  # backbone -> of each layer what reads them


LLAMA = Architecture(
    activations=lambda backbone: [layer.mlp.act_fn for layer in backbone.layers],
    neurons=lambda config: config.intermediate_size,
    projections=lambda backbone: [layer.self_attn.o_proj for layer in backbone.layers],
    incoming=lambda backbone: [[layer.mlp.gate_proj, layer.mlp.up_proj] for layer in backbone.layers],
    outgoing=lambda backbone: [layer.mlp.down_proj for layer in backbone.layers],
)
ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(
        activations=lambda backbone: [layer.mlp.act for layer in backbone.h],
        neurons=lambda config: config.n_inner or 4 * config.n_embd,
        projections=lambda backbone: [layer.attn.c_proj for layer in backbone.h],
        incoming=lambda backbone: [[layer.mlp.c_fc] for layer in backbone.h],
        outgoing=lambda backbone: [layer.mlp.c_proj for layer in backbone.h],
    ),
    "gpt_neox": Architecture(
        activations=lambda backbone: [layer.mlp.act for layer in backbone.layers],
        neurons=lambda config: config.intermediate_size,
        projections=lambda backbone: [layer.attention.dense for layer in backbone.layers],
        incoming=lambda backbone: [[layer.mlp.dense_h_to_4h] for layer in backbone.layers],
        outgoing=lambda backbone: [layer.mlp.dense_4h_to_h for layer in backbone.layers],
    ),
    # Gate and up projection are one layer, whose outputs are the gates of all neurons and then what they are a gate of.
    "phi3": replace(
        LLAMA,
        activations=lambda backbone: [layer.mlp.activation_fn for layer in backbone.layers],
        incoming=lambda backbone: [[layer.mlp.gate_up_proj] for layer in backbone.layers],
    ),
    # Of the same build under the same names; norms, biases, windows, soft caps, scales and sizes of a head are no
    # concern of an adapter. A "gemma3" reads pictures, too: its text part is a "gemma3_text".
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text", "llama", "ministral", "mistral"), LLAMA),
    **dict.fromkeys(("olmo2", "olmo3", "qwen2", "qwen3", "smollm3"), LLAMA),
}

PER_LAYER = ("layer_types", "no_rope_layers")  # lists of a configuration with an entry for each layer


def carries_state(family: str) -> bool:
    """Whether transformers knows the family and says of it that its layers hand a state from token to token."""
    try:
        model: Any = MODEL_MAPPING[CONFIG_MAPPING[family]]
        return bool(model._is_stateful)
    except (KeyError, TypeError):
        return False


def architecture(family: str) -> Architecture:
    """The adapter for a family, which is the `model_type` of its models' configurations; UserError if there is none."""
    if family in ARCHITECTURES:
        return ARCHITECTURES[family]
    if carries_state(family):
        raise UserError(
            f"model family '{family}': its layers hand a state from token to token (linear attention, state spaces), "
            "in which responses to one prompt, side by side behind it, would run together: no adapter is possible"
        )
    known = ", ".join(sorted(ARCHITECTURES))
    raise UserError(
        f"no adapter for model family '{family}' (known: {known}); docs/adding-a-model.md says how to add one"
    )


def text_part(model: Any) -> Any:
    """The layers' owner in a reward model or a bare backbone: that itself, or the part of it that reads texts."""
    return model.base_model.get_decoder()


def activation_modules(model: Any) -> list[nn.Module]:
    """One activation module a layer, from the bottom up, of a reward model or a bare backbone."""
    return architecture(model.config.model_type).activations(text_part(model))


def projection_modules(model: Any) -> list[nn.Module]:
    """One attention output projection a layer, likewise."""
    return architecture(model.config.model_type).projections(text_part(model))


def neuron_projections(model: Any) -> list[list[tuple[Linear, int]]]:
    """Of each layer what its neurons' values come from and, last, what reads them; and the axis of the neurons.

    That is of their weights: linear layers have their outputs first, GPT-2's Conv1D last. An axis may hold all neurons
    once, or several times one after the other (Phi-3's gates and what they are gates of).
    """
    family, part = architecture(model.config.model_type), text_part(model)
    return [
        [*((module, int(isinstance(module, Conv1D))) for module in read), (reader, int(not isinstance(reader, Conv1D)))]
        for read, reader in zip(family.incoming(part), family.outgoing(part), strict=True)
    ]


def neuron_weights(model: Any) -> list[list[tuple[Tensor, int]]]:
    """Of each layer the parameters that hold its neurons' incoming and outgoing weights, and the axis of the neurons.

    Incoming biases are a neuron's, outgoing ones are not.
    """
    layers = []
    for *read, (reader, axis) in neuron_projections(model):
        held: list[tuple[Tensor, int]] = [(module.weight, along) for module, along in read]
        held += [(module.bias, 0) for module, _ in read if module.bias is not None]
        layers.append([*held, (reader.weight, axis)])
    return layers


def by_neuron(values: Tensor, axis: int, neurons: int) -> Tensor:
    """Values of the form of one of neuron_weights' parameters, as [neurons, all that are of one neuron]."""
    times: Tensor = values.movedim(axis, 0).unflatten(0, (-1, neurons))  # all neurons, one time after the other
    return times.movedim(1, 0).flatten(1)


def layer_sizes(config: Any) -> tuple[int, int, int]:
    """Number of layers, neurons of a layer, attention heads of a layer."""
    text = config.get_text_config()
    return text.num_hidden_layers, architecture(config.model_type).neurons(text), text.num_attention_heads


def first_layers(config: Any, layers: int) -> Any:
    """A copy of a configuration with its first `layers` layers alone; UserError where it has fewer."""
    short = deepcopy(config)
    text = short.get_text_config()
    if layers > text.num_hidden_layers:
        raise UserError(f"source.layers = {layers}: it has {text.num_hidden_layers}")
    text.num_hidden_layers = layers
    for name in PER_LAYER:
        if getattr(text, name, None):
            setattr(text, name, getattr(text, name)[:layers])
    return short


def longest_text(config: Any) -> int:
    """Most tokens of a text that a model reads for itself.

    By LongRoPE, one beyond the pretrained length would move the positions of all texts of its batch.
    """
    text = config.get_text_config()
    positions: int = text.max_position_embeddings
    rope = getattr(text, "rope_parameters", None) or {}
    of_layers = (part for part in rope.values() if isinstance(part, dict))  # where kinds of layers differ
    for part in (rope, *of_layers):
        if part.get("rope_type") == "longrope":
            positions = min(positions, part["original_max_position_embeddings"])
    return positions
