"""The machine's limit: the rate at which it multiplies matrices of a model's own shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from benchmarks import workloads
from benchmarks.side import Measured, Stopwatch, device
from rmtension.engine.packing import group_by_length
from rmtension.engine.placement import mixed_precision
from rmtension.engine.reward_model import load_reward_model, load_tokenizer
from rmtension.engine.steps import steps

SAMPLE, ROUNDS = 4, 2  # batches that stand for all, and how often they are multiplied


def weights(model: Any) -> Iterator[Tensor]:
    """The weight [out, in] of every linear layer of a backbone, in order."""
    for module in model.base_model.modules():
        if isinstance(module, nn.Linear):
            yield module.weight.detach()
        elif isinstance(module, Conv1D):
            yield module.weight.detach().T


def batch_rows(folder: Path, comparisons: pl.DataFrame, budget: int, pairs_per_step: int) -> list[int]:
    """Rows of the matrices of every batch: its tokens."""
    lengths = [len(one) for one in workloads.packed(load_tokenizer(folder), comparisons)]
    plan = steps(len(lengths), pairs_per_step or len(lengths), 1, seed=0)
    groups = [group for index in plan for group in group_by_length(lengths, index, budget)]
    return sorted(sum(lengths[i] for i in group) for group in groups)


def products(inputs: Tensor, weight: Tensor, output: Tensor, training: bool) -> int:
    """A layer's products and the operations they take: its output and, in training, two gradients."""
    torch.mm(inputs, weight.T)
    if training:
        torch.mm(output, weight)
        torch.mm(output.T, inputs)
    return (3 if training else 1) * 2 * inputs.shape[0] * weight.numel()


@torch.inference_mode()
def measured(reward_model: str, comparisons: str, budget: int, pairs_per_step: int) -> Measured:
    """pairs_per_step: of training, whose gradients are counted then; 0 for a forward pass alone."""
    training, load, work = pairs_per_step > 0, Stopwatch(), Stopwatch()
    with load:
        model = load_reward_model(Path(reward_model), device())
        if training and mixed_precision("auto") == "bf16":
            model = model.bfloat16()
    rows = batch_rows(Path(reward_model), pl.read_parquet(comparisons), budget, pairs_per_step)
    sample = [rows[(2 * i + 1) * len(rows) // (2 * SAMPLE)] for i in range(SAMPLE)]
    operations = 0
    for turn in range(ROUNDS + 1):
        timer = work if turn else load  # the first turn warms up
        for n in sample:
            tensors: dict[int, Tensor] = {}
            for weight in weights(model):
                for size in weight.shape:
                    if size not in tensors:
                        tensors[size] = torch.randn(n, size, device=weight.device).to(weight.dtype)
            with timer:
                done = sum(
                    products(tensors[weight.shape[1]], weight, tensors[weight.shape[0]], training)
                    for weight in weights(model)
                )
            operations += done if turn else 0
    return Measured(work.seconds, load.seconds, sum(sample) * ROUNDS, {}, operations)
