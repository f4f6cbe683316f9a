"""Learners in which two objectives come together otherwise than by the sum of their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rmtension.engine.architectures import layer_sizes, neuron_weights
from rmtension.engine.learner import Learner
from rmtension.engine.packing import Packed
from rmtension.engine.placement import Replicated

ROUNDING = 1e-12  # of 1 - cosine squared: less than that is left of a gradient in float32 that is projected to nothing


def shares_left(first: float, second: float, inner: float) -> tuple[float, float]:
    """The factors a and b of two gradients by which a g + b h is the sum of both, each projected where they conflict.

    first, second: their squares; inner: their inner product. Each is projected on the normal plane of the other as it
    was: g - (g h / h h) h, and h - (g h / g g) g, so that neither has to come first.
    """
    if inner >= 0:
        return 1.0, 1.0
    # AdamW would make a whole step of the rounding that is left of opposite ones.
    if inner**2 >= (1 - ROUNDING) * first * second:
        return 0.0, 0.0
    return 1 - inner / first, 1 - inner / second


class Projected(Learner):
    """Gradients of two objectives, each freed of what works against the other (PCGrad, arXiv 2001.06782)."""

    def __init__(self, objectives: Sequence[str], placed: Replicated, gradient_clip: float) -> None:
        """objectives: of each pair."""
        super().__init__(placed, gradient_clip)
        self.objectives = np.array(objectives)

    def make_gradients(self, pairs: Sequence[Packed], index: Sequence[int]) -> list[float]:
        of_step = self.objectives[index]
        shares = [np.array(index)[of_step == objective].tolist() for objective in np.unique(of_step)]
        if len(shares) == 1:
            return super().make_gradients(pairs, index)
        sums, gradients = list[list[float]](), list[list[Tensor]]()
        for share in shares:
            sums.append(self.gradients_of(pairs, share, len(index)))
            gradients.append(self.placed.take_gradients())
        self.placed.give_gradients(self.projected(*gradients))
        return [sum(parts) for parts in zip(*sums, strict=True)]

    @torch.no_grad()
    def projected(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        """What the step goes by, in place of the first one's tensors."""
        inner = self.placed.inner_product
        a, b = shares_left(inner(first, first), inner(second, second), inner(first, second))
        return [one.mul_(a).add_(other, alpha=b) for one, other in zip(first, second, strict=True)]


class Frozen(Learner):
    """The incoming and outgoing weights of some neurons stay as they are, to the bit.

    Their gradients are zero, and no optimiser of ours moves anything whose gradients have all been zero.
    """

    def __init__(self, neurons: pl.DataFrame, placed: Replicated, gradient_clip: float) -> None:
        """neurons: layer, neuron."""
        super().__init__(placed, gradient_clip)
        self.free = list[tuple[Tensor, Tensor]]()  # a parameter, and which of its weights are free, along one axis
        _, size, _ = layer_sizes(placed.model.config)
        for layer, weights in enumerate(neuron_weights(placed.model)):
            held = neurons.filter(layer=layer)["neuron"].to_list()
            for parameter, axis in weights if held else []:
                free = torch.ones(parameter.shape[axis], dtype=torch.bool)
                free.view(-1, size)[:, held] = False
                along = [-1 if i == axis else 1 for i in range(parameter.ndim)]
                self.free.append((parameter, placed.beside(free.view(along), parameter)))

    def make_gradients(self, pairs: Sequence[Packed], index: Sequence[int]) -> list[float]:
        sums = super().make_gradients(pairs, index)
        for parameter, free in self.free:
            assert parameter.grad is not None
            parameter.grad.mul_(free)
        return sums
