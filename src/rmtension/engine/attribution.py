"""What neurons and attention heads add to the margin of pairs, to first order: value times gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from rmtension.base.memory import within_memory
from rmtension.base.progress import Progress
from rmtension.engine.activations import observed_heads, observed_neurons, packed_pairs
from rmtension.engine.architectures import layer_sizes
from rmtension.engine.packing import Batch, Packed, batches
from rmtension.engine.reward_model import load_reward_model, not_finite, score
from rmtension.study.stages import Activations

SCHEMA = {
    "unit": pl.String(),
    **dict.fromkeys(["layer", "neuron", "n_pairs"], pl.Int32()),
    **dict.fromkeys(["attribution", "attribution_abs"], pl.Float64()),
}


def pair_lengths(batch: Batch) -> list[int]:
    """Tokens of each comparison of a batch, as they lie in it one behind the other."""
    own = torch.arange(len(batch.index), device=batch.tokens.device)
    return torch.bincount(torch.cat([batch.comparison, own])[batch.segments]).tolist()


def add_attributions(sums: Tensor, lengths: Sequence[int], values: Tensor, gradient: Tensor) -> None:
    """Add those of a batch's pairs to sums [2: itself and its absolute value, units], float64.

    values, gradient: [..., T, units * size of a unit]. A shared prefix is there once, with the gradient of both texts.
    """
    wide = torch.promote_types(values.dtype, torch.float32)
    term = (values.to(wide) * gradient.to(wide)).flatten(0, -2)
    by_pair = torch.stack([part.sum(0, dtype=torch.float64) for part in term.split(lengths)])
    of_units = by_pair.unflatten(-1, (sums.shape[-1], -1)).sum(-1)
    sums += torch.stack([of_units.sum(0), of_units.abs().sum(0)])


def add_batch(sums: Sequence[Tensor], model: Any, batch: Batch) -> None:
    """sums: of neurons and of heads [layers, 2, units]. One pass forward and back; nothing of it stays."""
    lengths = pair_lengths(batch)

    def watch(of_units: Tensor, layer: int, values: Tensor) -> None:
        values.requires_grad_()  # the graph begins at the lowest values asked for
        # Without the graph: a tensor that its own hook held would live on.
        values.register_hook(partial(add_attributions, of_units[layer], lengths, values.detach()))

    neurons, heads = sums
    with observed_neurons(model, partial(watch, neurons)), observed_heads(model, partial(watch, heads)):
        rewards = score(model, batch)
    # Pairs do not meet: the gradient of the sum of all margins is, at each pair's tokens, that of its own.
    torch.where(batch.chosen, rewards, -rewards).sum().backward()


def attributions(model: Any, pairs: Sequence[Packed], budget: int, device: torch.device) -> pl.DataFrame:
    """SCHEMA: of every neuron, then of every head, the mean over pairs of one chosen and one rejected text.

    Of a pair it is the sum, over the tokens of both texts, of value times gradient of the margin (docs/methods.md,
    section 4). Batches are of at most `budget` tokens, or fewer where memory does not suffice. The model's parameters
    ask for no gradient afterwards.
    """
    model.requires_grad_(False)
    layers, *sizes = layer_sizes(model.config)

    def one_pass(budget: int) -> list[Tensor]:
        sums = [torch.zeros(layers, 2, size, dtype=torch.float64, device=device) for size in sizes]
        progress = Progress("attribution", len(pairs), "pairs")
        for batch in batches(pairs, budget):
            add_batch(sums, model, batch.to(device))
            progress.advance(len(batch.index), tokens=batch.tokens.numel())
        return sums

    sums = within_memory(one_pass, budget, max(map(len, pairs), default=0))[0]
    units = zip(("neuron", "head"), sums, strict=True)
    return pl.concat(unit_frame(unit, len(pairs), (of_units / len(pairs)).cpu()) for unit, of_units in units)


def unit_frame(unit: str, n_pairs: int, means: Tensor) -> pl.DataFrame:
    """SCHEMA of means [layers, 2, units]."""
    layers, _, size = means.shape
    signed, absolute = means.transpose(0, 1).flatten(1).numpy()
    places = pl.int_range(layers * size)
    found = pl.select(unit=pl.lit(unit), layer=places // size, neuron=places % size, n_pairs=n_pairs)
    found = found.with_columns(attribution=pl.Series(signed), attribution_abs=pl.Series(absolute))
    return found.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def reward_model_attributions(
    folder: Path, pairs: Path, settings: Activations, max_tokens: int, budget: int, device: torch.device
) -> pl.DataFrame:
    """attributions of a reward model on the pairs that its statistics are of (activations.packed_pairs)."""
    model = load_reward_model(folder, device)
    found = attributions(model, packed_pairs(folder, model.config, pairs, settings, max_tokens), budget, device)
    if not found.select(pl.col("attribution", "attribution_abs").is_finite().all()).to_series().all():
        raise not_finite(folder, "its attributions")
    return found
