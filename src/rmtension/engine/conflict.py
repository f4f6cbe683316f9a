"""How far the gradients of two objectives oppose each other, neuron by neuron, in one reward model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.base.memory import within_memory
from rmtension.base.progress import Progress
from rmtension.engine.activations import packed_pairs
from rmtension.engine.architectures import by_neuron, layer_sizes, neuron_weights
from rmtension.engine.learner import bradley_terry, margins
from rmtension.engine.packing import Packed, batches
from rmtension.engine.reward_model import load_reward_model, not_finite, score
from rmtension.study.stages import Conflict

logger = logging.getLogger(__name__)

PRODUCTS = ("first_first", "second_second", "first_second", "square", "opposed")
SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(["first", "second"], pl.String()),
    **dict.fromkeys(["layer", "neuron"], pl.Int32()),
    **dict.fromkeys(PRODUCTS, pl.Float64()),
}
Gradient = list[Tensor]  # of the weights of all neurons, in the order of neuron_weights
Halves = tuple[Gradient, Gradient]


def weights_of(model: Any) -> list[Tensor]:
    return [weight for layer in neuron_weights(model) for weight, _ in layer]


def mean_gradient(model: Any, pairs: Sequence[Packed], budget: int, device: torch.device) -> Gradient:
    """Gradient of the mean Bradley-Terry loss of pairs, by the weights of the neurons, in float32, on the CPU.

    Batches are of at most `budget` tokens, or fewer where memory does not suffice. All other weights lose their
    requires_grad.
    """
    weights = weights_of(model)
    model.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)

    def one_pass(budget: int) -> Gradient:
        for weight in weights:
            weight.grad = None
        progress = Progress("gradients", len(pairs), "pairs")
        for batch in batches(pairs, budget):
            on_device = batch.to(device)
            loss = bradley_terry(margins(score(model, on_device), on_device)) / len(pairs)
            loss.backward()
            progress.advance(len(batch.index), tokens=batch.tokens.numel())
        # There are to be several: a device that holds one beside the model need not hold all.
        return [(torch.zeros_like(w) if w.grad is None else w.grad).cpu() for w in weights]

    gradient, _ = within_memory(one_pass, budget, max(map(len, pairs)))
    for weight in weights:
        weight.grad = None
    return gradient


def halves(n: int, seed: int) -> tuple[list[int], list[int]]:
    """The numbers from 0 to n - 1 as two random halves, each in order; of an odd n the first has one more."""
    order = np.random.default_rng(seed).permutation(n)
    first, second = np.sort(order[: (n + 1) // 2]), np.sort(order[(n + 1) // 2 :])
    return first.tolist(), second.tolist()


def products(model: Any, first: Halves, second: Halves, share: tuple[float, float]) -> dict[str, Tensor]:
    """PRODUCTS of every neuron, each float64 [layers, neurons].

    first, second: gradients of either objective's two halves. share: the share of the first one's, and of the second
    one's, pairs that are in its first half, as the gradient of all is the mean of its halves weighted by it.
    """
    rows: list[Tensor] = []
    _, neurons, _ = layer_sizes(model.config)
    gradients = zip(*first, *second, strict=True)  # of one weight after another
    for layer in neuron_weights(model):
        sums: list[Tensor] = []
        for (weight, axis), of_weight in zip(layer, gradients, strict=False):
            h, h2, s, s2 = (one.to(weight.device).double() for one in of_weight)
            g, other = share[0] * h + (1 - share[0]) * h2, share[1] * s + (1 - share[1]) * s2
            square = g.square() + other.square()
            terms = [h * h2, s * s2, (h + h2) * (s + s2) / 4, square, square * (g * other < 0)]
            sums.append(torch.stack([by_neuron(term, axis, neurons).sum(1) for term in terms]))
        rows.append(torch.stack(sums).sum(0))
    return dict(zip(PRODUCTS, torch.stack(rows, dim=1).cpu(), strict=True))


def neuron_conflicts(
    model: Any,
    objectives: Mapping[str, Sequence[Packed]],
    two: Sequence[tuple[str, str]],
    seed: int,
    budget: int,
    device: torch.device,
) -> pl.DataFrame:
    """SCHEMA: every neuron of a reward model under every two of `two` objectives.

    objectives: name -> its pairs, at least two, which `seed` splits into halves.
    """
    gradients: dict[str, Halves] = {}
    share: dict[str, float] = {}
    for name, pairs in objectives.items():
        one, other = halves(len(pairs), seed)
        gradients[name] = (
            mean_gradient(model, [pairs[i] for i in one], budget, device),
            mean_gradient(model, [pairs[i] for i in other], budget, device),
        )
        share[name] = len(one) / len(pairs)
    return pl.concat(frames(model, gradients, share, two))


def frames(
    model: Any, gradients: Mapping[str, Halves], share: Mapping[str, float], two: Sequence[tuple[str, str]]
) -> Iterator[pl.DataFrame]:
    for first, second in two:
        found = products(model, gradients[first], gradients[second], (share[first], share[second]))
        layers, neurons = found["square"].shape
        place = {"layer": np.repeat(np.arange(layers), neurons), "neuron": np.tile(np.arange(neurons), layers)}
        frame = pl.DataFrame(place | {name: values.flatten().numpy() for name, values in found.items()})
        named = frame.with_columns(first=pl.lit(first), second=pl.lit(second))
        yield named.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def conflict(
    folder: Path,
    pairs: Mapping[str, Path],
    two: Sequence[tuple[str, str]],
    settings: Conflict,
    max_tokens: int,
    budget: int,
    device: torch.device,
) -> pl.DataFrame:
    """neuron_conflicts of the reward model in `folder`; pairs: objective -> file of its held-out pairs.

    Pairs longer than `max_tokens` are left out. UserError where fewer than two are left, or a gradient is no number.
    """
    model, objectives = load_reward_model(folder, device), {}
    for name, file in pairs.items():
        objectives[name] = packed_pairs(folder, model.config, file, settings, max_tokens)
        if (n := len(objectives[name])) < 2:
            raise UserError(
                f"{file}: {n} pairs within training.max_tokens = {max_tokens} and what {folder} reads; "
                "conflict takes two or more of each objective: raise it, or conflict.max_pairs, or leave conflict out"
            )
    found = neuron_conflicts(model, objectives, two, settings.seed, budget, device)
    if not all(found.select(pl.col(*PRODUCTS).is_finite().all()).row(0)):
        raise not_finite(folder, "its gradients")
    return found
