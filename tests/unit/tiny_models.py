"""Tiny random reward models of every family."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MinistralConfig,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    set_seed,
)
from transformers.activations import ACT2FN

from rmtension.base.files import write_checksums
from rmtension.data import synthetic
from rmtension.engine.attention import PACKED
from rmtension.engine.backbones import train_tokenizer
from rmtension.engine.packing import Packed, pack

torch.set_num_threads(1)  # for models this small, threads only wait for each other

VOCABULARY = 50
NEURONS = 24  # of a layer
WORDS = [f"w{i}" for i in range(VOCABULARY)]  # a token each, w0 that of an unknown one
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 64, "hidden_size": 16, "num_hidden_layers": 3,
    "intermediate_size": NEURONS,
}  # fmt: skip
GROUPED = COMMON | {"num_attention_heads": 4, "num_key_value_heads": 2}  # two heads share their keys and values
SLIDING, FULL = "sliding_attention", "full_attention"
CONFIGS: dict[str, PretrainedConfig] = {
    "gemma": GemmaConfig(**GROUPED, head_dim=6),
    # A window shorter than many prefixes and responses, and a cap that bends logits of small weights, too.
    "gemma2": Gemma2Config(
        **GROUPED,
        head_dim=6,
        query_pre_attn_scalar=9,
        attn_logit_softcapping=1.5,
        sliding_window=5,
        layer_types=[SLIDING, FULL, SLIDING],
    ),
    "gemma3_text": Gemma3TextConfig(
        **GROUPED, head_dim=6, query_pre_attn_scalar=9, sliding_window=7, layer_types=[SLIDING, SLIDING, FULL]
    ),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=3, n_head=2, n_inner=NEURONS),
    "gpt_neox": GPTNeoXConfig(**COMMON, num_attention_heads=2),
    "llama": LlamaConfig(**GROUPED),
    "ministral": MinistralConfig(**GROUPED, head_dim=6, sliding_window=7, layer_types=[FULL, SLIDING, SLIDING]),
    "mistral": MistralConfig(**GROUPED, head_dim=6, sliding_window=9),
    "olmo2": Olmo2Config(**GROUPED),
    "olmo3": Olmo3Config(**GROUPED, sliding_window=5, layer_types=[SLIDING, FULL, SLIDING]),
    "phi3": Phi3Config(**GROUPED, pad_token_id=0, sliding_window=9),
    "qwen2": Qwen2Config(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=6),  # four heads of 6 in a width of 16, as in the real ones
    "smollm3": SmolLM3Config(**GROUPED, pad_token_id=0, no_rope_layers=[1, 0, 1]),
}

# For what does not hang on how a backbone computes: plain and gated MLPs, learnt and rotary positions.
TWO = ["gpt2", "llama"]
two_families = pytest.mark.parametrize("family", TWO)


def random_model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A reward model with weights large enough that layers, positions, neurons and biases all matter."""
    set_seed(seed)
    config = copy.deepcopy(CONFIGS[family])
    config.update(changes)
    # Padding is the end-of-text token, as in the GPT-2 and SmolLM2 tokenizers.
    config.num_labels, config.pad_token_id, config.eos_token_id = 1, 0, 0
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=PACKED).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


# Where a family keeps the weights of a layer's neurons, and the axis of the neurons; of families not named, GATED.
WEIGHTS = {
    "gpt2": {"mlp.c_fc.weight": 1, "mlp.c_fc.bias": 0, "mlp.c_proj.weight": 0},
    "gpt_neox": {"mlp.dense_h_to_4h.weight": 0, "mlp.dense_h_to_4h.bias": 0, "mlp.dense_4h_to_h.weight": 1},
    "phi3": {"mlp.gate_up_proj.weight": 0, "mlp.down_proj.weight": 1},  # the first of all neurons, then the second
}
GATED = {"mlp.gate_proj.weight": 0, "mlp.up_proj.weight": 0, "mlp.down_proj.weight": 1}


class Block(NamedTuple):
    """What surrounds the neurons and heads of a layer, found without the engine's adapters."""

    before: nn.Module  # its first outputs, one a neuron, are what the activation function is applied to
    projection: nn.Module  # mixes the outputs of the heads
    from_heads: Tensor  # [heads * size of a head, width] its weight
    from_neurons: Tensor  # [neurons, width] of the projection behind the activation
    values: list[Tensor]  # [size of a head, ...] each: what makes the values of the last head


def head_size(model: Any) -> int:
    config = model.config
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def block(model: Any, layer: int) -> Block:
    """Views of a layer's weights: setting them to zero changes the model."""
    size = head_size(model)
    match model.config.model_type:
        case "gpt2":
            part = model.transformer.h[layer]
            before, attention, down = part.mlp.c_fc, part.attn.c_proj, part.mlp.c_proj
            values = [part.attn.c_attn.weight.T[-size:], part.attn.c_attn.bias[-size:]]
            return Block(before, attention, attention.weight, down.weight, values)
        case "gpt_neox":
            part = model.gpt_neox.layers[layer]
            before, down = part.mlp.dense_h_to_4h, part.mlp.dense_4h_to_h
            attention, made = part.attention.dense, part.attention.query_key_value
        case "phi3":  # queries, then keys, then values; all gates, then what they are gates of
            part = model.model.layers[layer]
            before, down = part.mlp.gate_up_proj, part.mlp.down_proj
            attention, made = part.self_attn.o_proj, part.self_attn.qkv_proj
        case _:
            part = model.model.layers[layer]
            before, down = part.mlp.gate_proj, part.mlp.down_proj
            attention, made = part.self_attn.o_proj, part.self_attn.v_proj
    # Query, key and value of a head lie side by side in GPT-NeoX, so that the last rows are a head's values there too.
    values = [parameter[-size:] for parameter in made.parameters()]
    return Block(before, attention, attention.weight.T, down.weight.T, values)


@contextmanager
def plain(model: Any) -> Iterator[None]:
    """Within the context, the model is in transformers' own attention; `eager` where no other knows its soft cap.

    That without its rounding to float32 in models of float64.
    """
    capped = getattr(model.config, "attn_logit_softcapping", None)
    model.set_attn_implementation("eager" if capped else "sdpa")
    with patch.object(nn.functional, "softmax", lambda logits, dim, dtype: logits.softmax(dim)):
        yield
    model.set_attn_implementation(PACKED)


def plain_activations(model: Any, text: Tensor) -> Tensor:
    """Neurons' values [layers, tokens, neurons] of one text alone: the configured function, applied by hand."""
    inputs: list[Tensor] = []
    config = model.config
    befores = [block(model, layer).before for layer in range(config.num_hidden_layers)]
    handles = [module.register_forward_hook(lambda _m, _i, x: inputs.append(x.flatten(0, -2))) for module in befores]
    with torch.no_grad(), plain(model):
        model.base_model(text[None])
    for handle in handles:
        handle.remove()
    names = (getattr(config, name, None) for name in ("hidden_activation", "hidden_act", "activation_function"))
    values: Tensor = ACT2FN[next(filter(None, names))](torch.stack(inputs)[..., :NEURONS])
    return values


def save_backbone(family: str, folder: Path, vocabulary: int = 0) -> None:
    """A random backbone as a Hugging Face folder, with a tokenizer of its own, for texts of up to 2,048 tokens.

    Or with embeddings for a `vocabulary` that the caller puts there.
    """
    set_seed(0)
    tokenizer = train_tokenizer(synthetic.corpus(50, 0), 400)
    config = copy.deepcopy(CONFIGS[family])
    config.vocab_size, config.max_position_embeddings = vocabulary or len(tokenizer), 2048
    config.bos_token_id, config.eos_token_id, config.pad_token_id = None, tokenizer.eos_token_id, tokenizer.pad_token_id
    if getattr(config, "rope_parameters", None):
        config.rope_parameters["rope_theta"] = 50_000.0  # another one than the default
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_checksums(folder)


def pairs(n: int, seed: int) -> list[Packed]:
    """Pairs with a rule to learn: the chosen response ends in 7, the rejected one in 8."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        prompt, one, other = (rng.integers(9, 50, rng.integers(1, 8)) for _ in range(3))
        made.append(pack([np.array([*prompt, *one, 7])], [np.array([*prompt, *other, 8])]))
    return made


def texts(pair: Packed) -> list[torch.Tensor]:
    """The chosen and the rejected one's tokens."""
    return [torch.from_numpy(pair.tokens[(pair.segments == 0) | (pair.segments == i)]) for i in (1, 2)]
