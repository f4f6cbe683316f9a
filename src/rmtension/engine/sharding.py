"""A model and its optimiser spread over the processes that train them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint import state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rmtension.base.errors import UserError
from rmtension.engine.placement import Replicated, Scorer, total

logger = logging.getLogger(__name__)

T = TypeVar("T")
GATHERED = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
SPREAD = state_dict.StateDictOptions(full_state_dict=True)


class Sharded(Replicated):
    """A model and its optimiser of which each process holds a part of every block."""

    def spread(self, scorer: Scorer) -> None:
        """Spread the weights over the processes, block by block; their gradients are summed."""
        mesh = init_device_mesh(self.accelerator.device.type, (distributed.get_world_size(),))
        for module in scorer.modules():
            if type(module).__name__ in self.model._no_split_modules:
                fully_shard(module, mesh=mesh)
        fully_shard(scorer, mesh=mesh)
        for module in scorer.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        here = sum(weight.to_local().numel() for weight in scorer.parameters() if isinstance(weight, DTensor))
        logger.info("sharded: %d of %d weights are here", here, sum(weight.numel() for weight in scorer.parameters()))

    def within_memory(self, work: Callable[[int], T], longest: int) -> T:
        """What `work` returns; UserError where memory does not suffice."""
        try:
            return work(self.budget)
        except torch.OutOfMemoryError:  # the others, in the midst of a collective, could not be told
            raise UserError(
                f"out of device memory with {self.budget} tokens at a time: lower compute.training_tokens"
            ) from None

    def sum_gradients(self) -> None:
        """They are summed as they are made."""

    def inner_product(self, first: list[Tensor], second: list[Tensor]) -> float:
        here = ([g.to_local() for g in gradients if isinstance(g, DTensor)] for gradients in (first, second))
        return total(super().inner_product(*here))[0]

    def beside(self, values: Tensor, parameter: Tensor) -> Tensor:
        assert isinstance(parameter, DTensor)
        whole = values.to(parameter.device).expand(parameter.shape).contiguous()
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements)

    def weights(self) -> dict[str, Tensor]:
        gathered: dict[str, Any] = state_dict.get_model_state_dict(self.model, options=GATHERED)
        return gathered

    def optimizer_state(self) -> dict[str, Any]:
        return dict(state_dict.get_optimizer_state_dict(self.model, self.optimizer.optimizer, options=GATHERED))

    def restore(self, weights: dict[str, Any], optimizer_state: dict[str, Any], budget: int) -> None:
        # The optimiser first: to have something to fill, it makes a step of size zero.
        state_dict.set_optimizer_state_dict(self.model, self.optimizer.optimizer, optimizer_state, options=SPREAD)
        state_dict.set_model_state_dict(self.model, weights, options=SPREAD)
        self.budget = budget
