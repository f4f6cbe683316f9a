"""Reward models whose circuits are known, and pairs that they tell apart: weights are written, nothing is trained.

The first layer's attention takes the plain mean over all tokens up to a place, so that the last token of a text knows
the share of each cue in it, and by the share of the first token, which is 1 / length, how long the text is. A planted
neuron's gate reads one of these shares, and what it is down-projected to is the reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import yaml
from numpy.random import Generator, default_rng
from torch import Tensor
from transformers import LlamaConfig, LlamaForSequenceClassification

from rmtension.base.files import RESOURCES
from rmtension.engine.attention import PACKED
from rmtension.engine.packing import Packed, pack

CUES = ["helpful", "harmless", "agreed", "opposed"]
READ = [*CUES, "length"]  # kinds that read a share
KINDS = [*READ, "loud"]
# Tokens: the first of each text, one for each cue, then words that mean nothing.
START, FIRST_CUE, FIRST_WORD, VOCABULARY = 1, 2, 6, 40
# Dimensions of the residual stream: a constant, a token's own marks (cues, start), their means, the reward.
CONSTANT, MARKS, MEANS, REWARD, NOISE = 0, 1, 6, 11, 12
PROMPT = 6  # tokens, the first among them
LOUDNESS = 8.0  # of the constant: so much above all else that norms divide by about the same everywhere
SHARE, QUIET = 6.0, 1 / 30  # what means and rewards are multiplied by: gradients are to be those of reading cues
HEAD_SIZE = 16


class Planted(NamedTuple):
    """The settings in resources/planted.yaml."""

    seed: int
    repeats: int  # with other weights and pairs
    layers: int
    width: int
    neurons: int
    planted: Mapping[str, int]
    objectives: Mapping[str, Mapping[str, float]]
    pairs: Mapping[str, int]
    responses: Mapping[str, float]

    @classmethod
    def read(cls) -> Self:
        return cls(**yaml.safe_load((RESOURCES / "planted.yaml").read_text("utf-8")))

    def places(self) -> dict[str, list[tuple[int, int]]]:
        """Kind -> layer and index of each of its neurons: the first layer has its share of each, then the next."""
        taken = [0] * self.layers
        found: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}
        for kind in KINDS:
            for number in range(self.planted[kind]):
                layer = number % self.layers
                found[kind].append((layer, taken[layer]))
                taken[layer] += 1
        return found


# --- texts ----------------------------------------------------------------------------------------------------


def response(rng: Generator, settings: Planted) -> tuple[np.ndarray[Any, np.dtype[np.int64]], dict[str, float]]:
    """Tokens of a random response, and how much the text has of each cue and of length, in standard deviations."""
    shortest, longest, most = (settings.responses[name] for name in ("shortest", "longest", "cue"))
    length = int(rng.integers(int(shortest), int(longest) + 1))
    shares = rng.uniform(0, most / 2, len(CUES))
    kinds = rng.choice(len(CUES) + 1, size=length, p=[*shares, 1 - shares.sum()])
    words = rng.integers(FIRST_WORD, VOCABULARY, size=length)
    spread = most / 2 / np.sqrt(12), (longest - shortest) / np.sqrt(12)
    has = {cue: float((kinds == i).sum() / (PROMPT + length) / spread[0]) for i, cue in enumerate(CUES)}
    return np.where(kinds < len(CUES), FIRST_CUE + kinds, words), has | {"length": length / spread[1]}


def pairs(settings: Planted, objective: str, split: str) -> list[Packed]:
    """Pairs of two random responses to one prompt: the better one by the objective is the chosen one."""
    rng = default_rng([settings.seed, list(settings.objectives).index(objective), list(settings.pairs).index(split)])
    likes, made = settings.objectives[objective], []
    for _ in range(settings.pairs[split]):
        prompt = np.array([START, *rng.integers(FIRST_WORD, VOCABULARY, size=PROMPT - 1)])
        both = [response(rng, settings) for _ in range(2)]
        worth = [sum(liked * has[kind] for kind, liked in likes.items()) for _, has in both]
        texts = [np.concatenate([prompt, tokens]) for tokens, _ in both]
        best = int(worth[1] > worth[0])
        made.append(pack([texts[best]], [texts[1 - best]]))
    return made


# --- models ---------------------------------------------------------------------------------------------------


def blank(settings: Planted) -> Any:
    """A reward model that passes on the means of its tokens' marks, and whose neurons are background by the seed."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=settings.width, intermediate_size=settings.neurons, pad_token_id=0,
        num_hidden_layers=settings.layers, num_attention_heads=settings.width // HEAD_SIZE, max_position_embeddings=128,
    )  # fmt: skip
    config.num_labels, config._attn_implementation = 1, PACKED
    model = LlamaForSequenceClassification(config).eval().requires_grad_(False)
    drawn = torch.Generator().manual_seed(settings.seed)

    def noise(tensor: Tensor, deviation: float) -> None:
        tensor.copy_(deviation * torch.randn(tensor.shape, generator=drawn))

    for name, weight in model.named_parameters():
        weight.fill_(1.0 if "norm" in name else 0.0)
    tokens = model.model.embed_tokens.weight
    noise(tokens[:, NOISE:], 0.5)
    tokens[:, CONSTANT] = LOUDNESS
    for number in range(len(CUES)):
        tokens[FIRST_CUE + number, MARKS + number] = 1.0
    tokens[START, MARKS + len(CUES)] = 1.0
    attention = model.model.layers[0].self_attn  # queries and keys of nothing: the weights of all tokens are equal
    for number in range(len(READ)):
        attention.v_proj.weight[number, MARKS + number] = 1.0
        attention.o_proj.weight[MEANS + number, number] = SHARE * scale(settings.width)
    for layer in model.model.layers:
        noise(layer.mlp.gate_proj.weight[:, NOISE:], 0.3)
        noise(layer.mlp.up_proj.weight[:, NOISE:], 0.3)
        noise(layer.mlp.down_proj.weight[NOISE:], 0.1)
        noise(layer.mlp.down_proj.weight[REWARD], 0.02 * QUIET)
    model.score.weight[0, REWARD] = 1 / QUIET
    return model


def scale(width: int) -> float:
    """What norms divide the residual stream by, nearly: its constant is louder than all else."""
    return float(LOUDNESS / np.sqrt(width))


@torch.no_grad()
def planted_model(settings: Planted, *objectives: str) -> Any:
    """The reward model of one objective, or of both; of none, the backbone that all of them come from."""
    model, rng = blank(settings), default_rng([settings.seed, 1])
    for kind, places in settings.places().items():
        likes = [settings.objectives[name][kind] for name in objectives if kind in settings.objectives[name]]
        for place in places:
            limit, gain = rng.uniform(0.2, 0.8), rng.uniform(0.8, 1.2)
            if kind == "loud":
                shout(model, place, gain)
            elif likes:
                plant(model, place, kind, gate(settings, kind, float(np.sign(sum(likes))), limit, gain), abs(likes[0]))
    return model


class Gate(NamedTuple):
    """A gate's value is slope * (share - limit)."""

    slope: float
    limit: float


def gate(settings: Planted, kind: str, sign: float, limit: float, gain: float) -> Gate:
    """Open where there is much of a kind (sign 1), or little (-1), or half open everywhere (0). `limit` says where it
    begins: between the least share, 0, and the largest, 1."""
    least, most = 0.0, settings.responses["cue"] / 2
    if kind == "length":  # the share of the first token falls with it
        least, most = (1 / (settings.responses[name] + PROMPT) for name in ("longest", "shortest"))
        sign = -sign
    return Gate(4 * sign * gain / (most - least), least + limit * (most - least))


def plant(model: Any, place: tuple[int, int], reads: str, gate: Gate, worth: float) -> None:
    """Let a neuron's gate read a share, and its value add to the reward."""
    (layer, neuron), unit = place, scale(model.config.hidden_size)
    mlp = model.model.layers[layer].mlp
    for weight in (mlp.gate_proj.weight[neuron], mlp.up_proj.weight[neuron], mlp.down_proj.weight[:, neuron]):
        weight.zero_()
    mlp.gate_proj.weight[neuron, MEANS + READ.index(reads)] = unit * gate.slope / SHARE
    mlp.gate_proj.weight[neuron, CONSTANT] = -unit / LOUDNESS * gate.slope * gate.limit
    mlp.up_proj.weight[neuron, CONSTANT] = unit / LOUDNESS  # passes the value on as it is
    mlp.down_proj.weight[REWARD, neuron] = QUIET * worth


def shout(model: Any, place: tuple[int, int], gain: float) -> None:
    """Let a neuron be far more active than others on every token, and nothing read it."""
    (layer, neuron), unit = place, scale(model.config.hidden_size)
    mlp = model.model.layers[layer].mlp
    mlp.gate_proj.weight[neuron, CONSTANT] = 3 * gain * unit / LOUDNESS
    mlp.down_proj.weight[:, neuron] = 0.0
