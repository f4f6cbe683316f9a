"""Set neurons to zero or to their means, and attention heads to zero, while a model runs, and always undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

import polars as pl
import torch
from torch import Tensor, nn

from rmtension.engine.architectures import (
    Linear,
    activation_modules,
    layer_sizes,
    neuron_projections,
    projection_modules,
)

# A layer is computed without its ablated neurons where that spares a twentieth of its products: to gather the weights
# of the others takes a fiftieth. Products by a number of neurons that 8 does not divide are up to a seventh slower.
SPARED, ROUND = 0.05, 16


class Mask(NamedTuple):
    """What is ablated in a model: true where a neuron or a head is."""

    neurons: Tensor  # bool [layers, neurons of a layer]
    heads: Tensor  # bool [layers, heads of a layer]
    means: Tensor | None = None  # float64 [layers, neurons of a layer]: what takes the neurons' place; None: zeros

    @classmethod
    def of(cls, units: pl.DataFrame, config: Any, means: pl.DataFrame | None = None) -> Self:
        """Of rows unit (neuron or head), layer, neuron (index in the layer); without rows, nothing is ablated.

        means: layer, neuron, mean of every neuron (ranking.mean_values), which then takes its place.
        """
        layers, *sizes = layer_sizes(config)
        neurons, heads = (torch.zeros(layers, size, dtype=torch.bool) for size in sizes)
        for unit, part in (("neuron", neurons), ("head", heads)):
            rows = units.filter(unit=unit)
            part[rows["layer"].to_list(), rows["neuron"].to_list()] = True
        if means is None:
            return cls(neurons, heads)
        values = torch.full(neurons.shape, torch.nan, dtype=torch.float64)
        values[means["layer"].to_list(), means["neuron"].to_list()] = means["mean"].to_torch()
        return cls(neurons, heads, values)

    def content(self) -> bytes:
        """The same for masks that ablate one model alike, and for those only."""
        replaced = [] if self.means is None else [self.means[self.neurons]]
        return b"".join(part.numpy().tobytes() for part in (self.neurons, self.heads, *replaced))


@contextmanager
def ablated(model: Any, mask: Mask) -> Iterator[None]:
    """Within the context, at every position the given neurons' values are zero or their means, heads' outputs zero.

    A layer that loses many neurons to zero has activations of the others alone, and of a few zeros.
    """
    neurons, staying, heads = (by_layer(u, model.device) for u in (mask.neurons, ~mask.neurons, mask.heads))
    layers = zip(activation_modules(model), neuron_projections(model), neurons, staying, strict=True)
    with ExitStack() as changes:
        for layer, (activation, projections, off, stay) in enumerate(layers):
            computed = -(-len(stay) // ROUND) * ROUND
            if len(off) and mask.means is not None:
                means = mask.means[layer, mask.neurons[layer]].to(model.device, model.dtype)
                changes.enter_context(activation.register_forward_hook(partial(fix_neurons, off, means)))
            elif computed <= (1 - SPARED) * mask.neurons.shape[1]:
                rest = Rest(torch.cat([stay, off])[:computed], len(stay), mask.neurons.shape[1])
                *read, reader = projections
                for product, linear, axis in [*((rest.incoming, *one) for one in read), (rest.outgoing, *reader)]:
                    changes.enter_context(computed_by(linear, partial(product, linear, axis)))
            elif len(off):
                changes.enter_context(activation.register_forward_hook(partial(zero_neurons, off)))
        for module, off in zip(projection_modules(model), heads, strict=True):
            if len(off):
                zero = partial(zero_heads, off, mask.heads.shape[1])
                changes.enter_context(module.register_forward_pre_hook(zero))
        yield


class Rest(NamedTuple):
    """What is computed of a layer without its ablated neurons."""

    members: Tensor  # [computed] first the neurons that stay, then some that do not, to make a round number
    staying: int
    neurons: int  # of the whole layer

    def part(self, values: Tensor, axis: int) -> Tensor:
        """Of a parameter, all that is of the members; zeros of those that do not stay."""
        times: Tensor = values.unflatten(axis, (-1, self.neurons)).index_select(axis + 1, self.members)
        times.narrow(axis + 1, self.staying, len(self.members) - self.staying).zero_()
        return times.flatten(axis, axis + 1)

    def incoming(self, module: Linear, axis: int, inputs: Tensor) -> Tensor:
        """What the members' values come from, in place of the module's outputs."""
        weight, bias = self.part(module.weight, axis), module.bias
        return nn.functional.linear(inputs, weight.T if axis else weight, None if bias is None else self.part(bias, 0))

    def outgoing(self, module: Linear, axis: int, inputs: Tensor) -> Tensor:
        """The module's outputs of the members' values."""
        weight = self.part(module.weight, axis)
        return nn.functional.linear(inputs, weight if axis else weight.T, module.bias)


@contextmanager
def computed_by(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the context, the module's outputs are those of `forward`."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward  # the class's own shows again


def by_layer(units: Tensor, device: torch.device) -> list[Tensor]:
    """Of bool [layers, units], the indices of the true ones of each layer; counted on the CPU and moved at once."""
    return list(units.nonzero()[:, 1].to(device).split(units.sum(1).tolist()))


def zero_neurons(neurons: Tensor, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    """Forward hook: the layer's activations with the ablated neurons at zero."""
    return output.index_fill(-1, neurons, 0.0)  # a CPU fills by a mask many times as slowly


def fix_neurons(neurons: Tensor, values: Tensor, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    """Forward hook: the layer's activations with the ablated neurons at these values, one a neuron."""
    return output.index_copy(-1, neurons, values.to(output.dtype).expand(*output.shape[:-1], -1))


def zero_heads(heads: Tensor, count: int, _module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Forward pre-hook: what the output projection reads, with the ablated of its `count` heads' slices at zero."""
    [outputs] = inputs
    zeroed: Tensor = outputs.unflatten(-1, (count, -1)).index_fill(-2, heads, 0.0).flatten(-2)
    return zeroed
