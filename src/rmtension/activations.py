"""Streaming activation statistics of a trained backbone and of the backbone it came from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from rmtension.architectures import activation_modules, layer_sizes
from rmtension.comparisons import as_comparisons, draw
from rmtension.packing import Batch, Packed, batches
from rmtension.progress import Progress
from rmtension.reward_model import (
    hidden_states,
    load_backbone,
    load_reward_model,
    load_tokenizer,
    pack_comparisons,
)
from rmtension.study import Activations

logger = logging.getLogger(__name__)

RESPONSES = ("chosen", "rejected")


@contextmanager
def observed(model: Any, observe: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Within the context, `observe(layer, activations [B, T, neurons])` is called in every forward pass."""

    def hook(layer: int, _module: object, _inputs: object, output: Tensor) -> None:
        observe(layer, output)

    handles = []
    try:
        for layer, module in enumerate(activation_modules(model)):
            handles.append(module.register_forward_hook(partial(hook, layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class TokenGroups:
    """The real tokens of a batch, grouped by how many chosen and how many rejected texts hold them.

    Of pairs there are three groups: shared prefixes, chosen texts' own tokens, rejected texts' own tokens.
    """

    order: Tensor  # [tokens] positions in the flattened batch, group after group
    sizes: list[int]  # [groups]
    weights: Tensor  # [groups, responses] float64

    @classmethod
    def of(cls, batch: Batch) -> TokenGroups:
        weights = torch.stack(batch.token_weights(), dim=-1).flatten(0, 1)
        groups, member = torch.unique(weights, dim=0, return_inverse=True)
        sizes = torch.bincount(member).tolist()
        padding = sizes[0] if not groups[0].any() else 0  # no weight at all sorts first
        order = member.argsort(stable=True)[padding:]
        first = 1 if padding else 0
        return cls(order, sizes[first:], groups[first:])


class Sums:
    """Sums over tokens for every neuron, in float64 on the device; nothing else is kept."""

    def __init__(self, layers: int, neurons: int, device: torch.device) -> None:
        self.tokens = torch.zeros(len(RESPONSES), dtype=torch.float64, device=device)
        # value, |value|, value squared, value > 0, (trained - base) squared
        self.sums = torch.zeros(5, layers, len(RESPONSES), neurons, dtype=torch.float64, device=device)

    def add(self, layer: int, trained: Tensor, base: Tensor, groups: TokenGroups) -> None:
        """trained and base: activations [B, T, neurons] of one layer."""
        value, other = (output.flatten(0, 1)[groups.order] for output in (trained, base))
        terms = (value, value.abs(), value.square(), (value > 0).to(value.dtype), (value - other).square())
        for i, term in enumerate(terms):
            # Ten times as fast as a product with a float64 copy, and the sums are float64 all the same.
            by_group = torch.stack([part.sum(0, dtype=torch.float64) for part in term.split(groups.sizes)])
            self.sums[i, layer] += groups.weights.T @ by_group

    def frame(self) -> pl.DataFrame:
        """Columns layer, neuron, response, n_tokens, mean, mean_abs, rms, frac_positive, change_rms."""
        layers, neurons = self.sums.shape[1], self.sums.shape[3]
        mean, mean_abs, square, positive, change = (self.sums / self.tokens[:, None]).cpu()
        columns = {
            "mean": mean,
            "mean_abs": mean_abs,
            "rms": square.sqrt(),
            "frac_positive": positive,
            "change_rms": change.sqrt(),
        }
        index = torch.cartesian_prod(torch.arange(layers), torch.arange(len(RESPONSES)), torch.arange(neurons))
        return pl.DataFrame(
            {
                "layer": index[:, 0].to(torch.int32).numpy(),
                "neuron": index[:, 2].to(torch.int32).numpy(),
                "response": pl.Series(RESPONSES)[index[:, 1].numpy()],
                "n_tokens": self.tokens.cpu().long()[index[:, 1]].numpy(),
            }
            | {name: values.flatten().numpy() for name, values in columns.items()}
        ).sort("layer", "neuron", "response")


@torch.inference_mode()
def activation_statistics(
    trained: Any, base: Any, comparisons: Sequence[Packed], budget: int, device: torch.device
) -> pl.DataFrame:
    """Statistics of every neuron over the chosen and over the rejected texts (docs/methods.md, section 4).

    A shared prefix is computed once and counts once for each text that holds it. `trained` and `base` share an
    architecture; both see the same batches of at most `budget` tokens. Returns one row for each layer, neuron and
    response; see Sums.frame.
    """
    sums = Sums(*layer_sizes(trained.config), device)
    progress = Progress("activation statistics", len(comparisons), "comparisons")
    for batch in batches(comparisons, budget):
        add_batch(sums, trained, base, batch.to(device))
        progress.advance(len(batch.index), tokens=batch.tokens.numel())
    return sums.frame()


def add_batch(sums: Sums, trained: Any, base: Any, batch: Batch) -> None:
    """One pass of each model; the base's activations of this batch are all that is held meanwhile."""
    groups = TokenGroups.of(batch)
    of_base: dict[int, Tensor] = {}
    with observed(base, of_base.__setitem__):
        hidden_states(base, batch)
    with observed(trained, lambda layer, output: sums.add(layer, output, of_base.pop(layer), groups)):
        hidden_states(trained, batch)
    sums.tokens += groups.weights.T @ torch.tensor(groups.sizes, dtype=torch.float64, device=batch.tokens.device)


def reward_model_statistics(
    folder: Path,
    backbone: Path,
    pairs: Path,
    settings: Activations,
    max_tokens: int,
    budget: int,
    device: torch.device,
) -> pl.DataFrame:
    """activation_statistics of a reward model on its regime's pairs, those longer than `max_tokens` left out."""
    frame = as_comparisons(draw(pl.read_parquet(pairs), settings.max_pairs, settings.seed))
    sides = frame["chosen"].to_list(), frame["rejected"].to_list()
    kept, packed = pack_comparisons(load_tokenizer(folder), *sides, max_tokens)
    logger.info("%d pairs, %d left out for their length", len(kept), len(frame) - len(kept))
    trained, base = load_reward_model(folder, device), load_backbone(backbone, device)
    return activation_statistics(trained, base, packed, budget, device)
