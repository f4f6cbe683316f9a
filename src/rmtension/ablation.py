"""Set neurons and attention heads to zero while a model runs, and always undo it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

import polars as pl
import torch
from torch import Tensor, nn

from rmtension.architectures import activation_modules, layer_sizes, projection_modules


class Mask(NamedTuple):
    """What is ablated in a model: true where a neuron or a head is."""

    neurons: Tensor  # bool [layers, neurons of a layer]
    heads: Tensor  # bool [layers, heads of a layer]

    @classmethod
    def of(cls, units: pl.DataFrame, config: Any) -> Self:
        """Of rows unit (neuron or head), layer, neuron (index in the layer); without rows, nothing is ablated."""
        layers, *sizes = layer_sizes(config)
        mask = cls(*(torch.zeros(layers, size, dtype=torch.bool) for size in sizes))
        for unit, part in zip(("neuron", "head"), mask, strict=True):
            rows = units.filter(unit=unit)
            part[rows["layer"].to_list(), rows["neuron"].to_list()] = True
        return mask

    def content(self) -> bytes:
        """The same for equal masks of one model, and for those only."""
        return b"".join(part.numpy().tobytes() for part in self)


@contextmanager
def ablated(model: Any, mask: Mask) -> Iterator[None]:
    """Within the context, the given neurons' values and heads' outputs are zero at every position."""
    touched = mask.neurons.any(1).tolist(), mask.heads.any(1).tolist()  # asked on the CPU: a GPU would wait each time
    neurons, heads = mask.neurons.to(model.device), mask.heads.to(model.device)
    with ExitStack() as hooks:
        for layer, module in enumerate(activation_modules(model)):
            if touched[0][layer]:
                hooks.enter_context(module.register_forward_hook(partial(zero_neurons, neurons[layer])))
        for layer, module in enumerate(projection_modules(model)):
            if touched[1][layer]:
                hooks.enter_context(module.register_forward_pre_hook(partial(zero_heads, heads[layer])))
        yield


def zero_neurons(neurons: Tensor, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    """Forward hook: the layer's activations with the ablated neurons at zero."""
    return output.masked_fill(neurons, 0.0)


def zero_heads(heads: Tensor, _module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Forward pre-hook: what the output projection reads, with the ablated heads' slices at zero."""
    [outputs] = inputs
    return outputs.masked_fill(heads.repeat_interleave(outputs.shape[-1] // len(heads)), 0.0)
