"""Weights and optimiser spread over several processes. Seconds to import, so only trainings that shard import it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint import state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

logger = logging.getLogger(__name__)

GATHERED = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
SPREAD = state_dict.StateDictOptions(full_state_dict=True)


def shard(scorer: nn.Module, blocks: Collection[str], device: torch.device) -> None:
    """Spread the weights over the processes, block by block; their gradients are summed. blocks: names of classes."""
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for module in scorer.modules():
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(scorer, mesh=mesh)
    for module in scorer.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    here = sum(weight.to_local().numel() for weight in scorer.parameters() if isinstance(weight, DTensor))
    logger.info("sharded: %d of %d weights are here", here, sum(weight.numel() for weight in scorer.parameters()))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights, whole and on the CPU; empty but in the first process."""
    gathered: dict[str, Any] = state_dict.get_model_state_dict(model, options=GATHERED)
    return gathered


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Likewise the optimiser's state."""
    return dict(state_dict.get_optimizer_state_dict(model, optimizer, options=GATHERED))


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, content: dict[str, Any]) -> None:
    """Take up the `model` and `optimizer` of a checkpoint."""
    # The optimiser first: to have something to fill, it makes a step of size zero.
    state_dict.set_optimizer_state_dict(model, optimizer, content["optimizer"], options=SPREAD)
    state_dict.set_model_state_dict(model, content["model"], options=SPREAD)
