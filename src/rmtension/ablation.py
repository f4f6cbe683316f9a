"""Set neurons to zero while a model runs, and always undo it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from rmtension.architectures import activation_modules


@contextmanager
def ablated(model: Any, neurons: Tensor) -> Iterator[None]:
    """Within the context, the given neurons are zero at every position of every forward pass.

    neurons: bool [layers, neurons of a layer], true where a neuron is ablated.
    """
    handles = []
    try:
        for module, layer in zip(activation_modules(model), neurons, strict=True):
            if layer.any():
                handles.append(module.register_forward_hook(partial(zeroed, layer.to(model.device))))
        yield
    finally:
        for handle in handles:
            handle.remove()


def zeroed(layer: Tensor, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    """Forward hook: the layer's activations with the ablated neurons at zero."""
    return output.masked_fill(layer, 0.0)
