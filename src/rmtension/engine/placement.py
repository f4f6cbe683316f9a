"""A model and its optimiser in the processes that train them: whole in each."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn

from rmtension.base.memory import within_memory
from rmtension.engine.lean import keep_inputs_alone, new_optimizer
from rmtension.engine.packing import Batch
from rmtension.engine.reward_model import score
from rmtension.study.stages import Memory

T = TypeVar("T")


class Scorer(nn.Module):
    """Gives a reward model a forward pass over packed batches, so that accelerate can wrap it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return score(self.model, batch)


def learning(scorer: nn.Module) -> list[nn.Parameter]:
    """The weights that training moves."""
    return [parameter for parameter in scorer.parameters() if parameter.requires_grad]


def mixed_precision(precision: str) -> str:
    """Accelerate's name for the arithmetic; weights stay float32 in either case."""
    capable = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16" if precision == "bfloat16" or (precision == "auto" and capable) else "no"


def total(*values: float) -> list[float]:
    """Sums of these values over all processes."""
    if not distributed.is_initialized():
        return [*values]
    sums = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(sums)
    return sums.tolist()


class Replicated:
    """A model and its optimiser, both whole in every process, and how many tokens the device takes at a time."""

    def __init__(self, model: Any, learning_rate: float, precision: str, budget: int, memory: Memory) -> None:
        self.model, self.budget = model, budget
        self.accelerator = Accelerator(mixed_precision=mixed_precision(precision), cpu=not torch.cuda.is_available())
        scorer = Scorer(model)
        self.spread(scorer)
        if memory == "lean":
            keep_inputs_alone(model)
        optimizer = new_optimizer(memory, learning(scorer), learning_rate)
        # Not for evaluation only, but without DistributedDataParallel: a process that runs out of memory between its
        # collectives could not tell the others. `sum_gradients` adds them up instead.
        self.scorer = self.accelerator.prepare_model(scorer, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)

    def spread(self, scorer: Scorer) -> None:
        """Put the weights where they are to lie, before there is an optimiser of them."""

    def within_memory(self, work: Callable[[int], T], longest: int) -> T:
        """What `work` returns of the largest budget for which the device's memory suffices, from now on the budget."""
        result, self.budget = within_memory(work, self.budget, longest)
        return result

    def sum_gradients(self) -> None:
        """Make every process's gradients those of all."""
        if self.accelerator.num_processes > 1:
            for parameter in learning(self.scorer):
                distributed.all_reduce(parameter.grad)

    def take_gradients(self) -> list[Tensor]:
        """The gradients of all parameters, which no longer have any."""
        taken: list[Any] = [parameter.grad for parameter in learning(self.scorer)]
        self.optimizer.zero_grad()
        return taken

    def give_gradients(self, gradients: list[Tensor]) -> None:
        """What take_gradients has taken, or as many of the same form."""
        for parameter, gradient in zip(learning(self.scorer), gradients, strict=True):
            parameter.grad = gradient

    def inner_product(self, first: list[Tensor], second: list[Tensor]) -> float:
        """Of two gradients, over all parameters, in float64."""
        return sum(float((one.double() * other).sum()) for one, other in zip(first, second, strict=True))

    def beside(self, values: Tensor, parameter: Tensor) -> Tensor:
        """Values that a parameter can be multiplied by, where that lies."""
        return values.to(parameter.device)

    def weights(self) -> dict[str, Tensor]:
        """The model's weights, whole and on the CPU; empty but in the first process."""
        if not self.accelerator.is_main_process:
            return {}
        return {name: value.cpu() for name, value in self.model.state_dict().items()}

    def optimizer_state(self) -> dict[str, Any]:
        """Likewise the optimiser's state."""
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def restore(self, weights: dict[str, Any], optimizer_state: dict[str, Any], budget: int) -> None:
        """Go on from these."""
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(deepcopy(optimizer_state))  # or it would hold the file that they are mapped from
        self.budget = budget
