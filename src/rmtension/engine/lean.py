"""What a training holds beside weights and gradients: the optimiser's moments, layers' values, the best weights."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.optimization import Adafactor

from rmtension.base.files import writing
from rmtension.study.stages import Memory


def new_optimizer(memory: Memory, weights: Iterable[nn.Parameter], learning_rate: float) -> Any:
    """AdamW, which holds two moments of each weight; or Adafactor, which of a matrix holds one of each row and column.

    Neither moves a weight whose gradients have all been zero.
    """
    if memory == "full":
        return torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0, fused=True)
    # Steps of torch's own Adafactor are relative to the weights, so a learning rate would be another quantity.
    return Adafactor(weights, lr=learning_rate, scale_parameter=False, relative_step=False)


def keep_inputs_alone(model: Any) -> None:
    """From now on a pass keeps each layer's input, and the way back computes the rest of it once more, to the bit."""
    for module in model.modules():
        if type(module).__name__ in model._no_split_modules:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)


class Kept:
    """The best weights so far, on the CPU; none at first."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def put(self, weights: dict[str, Tensor]) -> None:
        self.weights = {name: value.clone() for name, value in weights.items()}

    def get(self) -> dict[str, Tensor]:
        return self.weights


class KeptOnDisk(Kept):
    """Likewise, in a file without a name in a checkpoint's folder: however the process ends, it is gone.

    Only while they are read are they in memory.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.file: IO[bytes] | None = None

    def put(self, weights: dict[str, Tensor]) -> None:
        with writing(self.checkpoint):
            self.file = TemporaryFile(dir=self.checkpoint.parent)  # noqa: SIM115  open as long as it is kept
            torch.save(weights, self.file)
            self.file.flush()

    def get(self) -> dict[str, Tensor]:
        if self.file is None:
            return {}
        mapped: dict[str, Tensor] = torch.load(f"/dev/fd/{self.file.fileno()}", weights_only=True, mmap=True)
        return mapped
