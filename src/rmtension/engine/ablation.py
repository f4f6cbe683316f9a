"""Set neurons to zero or to their means, and attention heads to zero, while a model runs, and always undo it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

import polars as pl
import torch
from torch import Tensor, nn

from rmtension.engine.architectures import activation_modules, layer_sizes, projection_modules


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
    """Within the context, at every position the given neurons' values are zero or their means, heads' outputs zero."""
    neurons, heads = by_layer(mask.neurons, model.device), by_layer(mask.heads, model.device)
    with ExitStack() as hooks:
        for layer, (module, off) in enumerate(zip(activation_modules(model), neurons, strict=True)):
            if len(off):
                replace = partial(zero_neurons, off)
                if mask.means is not None:
                    means = mask.means[layer, mask.neurons[layer]].to(model.device, model.dtype)
                    replace = partial(fix_neurons, off, means)
                hooks.enter_context(module.register_forward_hook(replace))
        for module, off in zip(projection_modules(model), heads, strict=True):
            if len(off):
                zero = partial(zero_heads, off, mask.heads.shape[1])
                hooks.enter_context(module.register_forward_pre_hook(zero))
        yield


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
