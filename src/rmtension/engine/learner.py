"""One model that learns: the loss of pairs, its gradients, a step of the optimiser, and a look at pairs held out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rmtension.engine.packing import Batch, Packed, collate
from rmtension.engine.placement import Replicated, total
from rmtension.engine.steps import shares

Pass = Callable[[Sequence[Packed], Sequence[int], int], tuple[float, int, int]]


def margins(rewards: Tensor, batch: Batch) -> Tensor:
    """Reward of the chosen minus reward of the rejected text of each pair [B], in float32."""
    return rewards[batch.chosen].float() - rewards[~batch.chosen].float()


def bradley_terry(margin: Tensor) -> Tensor:
    """Sum over pairs of -log sigmoid(chosen - rejected) (docs/methods.md, section 3)."""
    return -logsigmoid(margin).sum()


class Learner:
    """Passes over pairs, each shared out among the processes that learn together."""

    def __init__(self, placed: Replicated, gradient_clip: float) -> None:
        self.placed, self.gradient_clip = placed, gradient_clip

    def step(self, pairs: Sequence[Packed], index: Sequence[int], rate: float) -> dict[str, Any]:
        """One optimiser step on the pairs at `index`, whatever number of micro-batches they take."""
        started = time.perf_counter()
        placed = self.placed
        for group in placed.optimizer.param_groups:
            group["lr"] = rate
        loss, correct, tokens = self.make_gradients(pairs, index)
        placed.accelerator.clip_grad_norm_(placed.scorer.parameters(), self.gradient_clip)
        placed.optimizer.step()
        placed.optimizer.zero_grad()
        return {
            "loss": loss,
            "accuracy": correct / len(index),
            "learning_rate": rate,
            "tokens": int(tokens),
            "seconds": time.perf_counter() - started,
        }

    def make_gradients(self, pairs: Sequence[Packed], index: Sequence[int]) -> list[float]:
        """Make the gradients those that the step goes by; returns its mean loss, right pairs and tokens."""
        return self.gradients_of(pairs, index, len(index))

    def gradients_of(self, pairs: Sequence[Packed], index: Sequence[int], n: int) -> list[float]:
        """Make the gradients, in every process, those of a step's share of its mean loss.

        index: of the share; n: pairs of the step. Returns what the share adds to the loss, right pairs and tokens.
        """
        sums = self.summed(partial(self.add_gradients, n), pairs, index)
        self.placed.sum_gradients()
        return sums

    @torch.no_grad()
    def evaluate(self, pairs: Sequence[Packed]) -> tuple[float, float]:
        """Mean loss and accuracy."""
        loss, correct, _ = self.summed(self.tally, pairs, range(len(pairs)))
        return loss / len(pairs), correct / len(pairs)

    def summed(self, work: Pass, pairs: Sequence[Packed], index: Sequence[int]) -> list[float]:
        """What `work(pairs, index, budget)` returns, summed over the processes."""
        longest = max(len(pairs[i]) for i in index)
        return total(*self.placed.within_memory(partial(work, pairs, index), longest))

    def add_gradients(
        self, n: int, pairs: Sequence[Packed], index: Sequence[int], budget: int
    ) -> tuple[float, int, int]:
        """Gradients of this process's share; returns its part of the mean loss over n pairs, right pairs and tokens."""

        def learn(loss: Tensor) -> Tensor:
            part = loss / n
            self.placed.accelerator.backward(part)
            return part

        self.placed.optimizer.zero_grad()  # what a pass has left that ran out of memory
        return self.tally(pairs, index, budget, learn)

    def tally(
        self,
        pairs: Sequence[Packed],
        index: Sequence[int],
        budget: int,
        take: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> tuple[float, int, int]:
        """Of this process's share the loss, or what `take` makes of each micro-batch's; right pairs; and tokens."""
        loss, correct, tokens = 0.0, 0, 0
        for batch, weight in self.micro_batches(pairs, index, budget):
            margin = margins(self.placed.scorer(batch), batch)
            loss += take(weight * bradley_terry(margin)).item()
            correct += weight * int((margin > 0).sum())
            tokens += weight * batch.tokens.numel()
        return loss, correct, tokens

    def micro_batches(self, pairs: Sequence[Packed], index: Sequence[int], budget: int) -> Iterator[tuple[Batch, int]]:
        """This process's share of the pairs at `index`, with weights, in groups of similar length within the budget."""
        lengths = {i: len(pairs[i]) for i in index}  # of the step alone: there may be many pairs
        accelerator = self.placed.accelerator
        dealt = shares(lengths, index, budget, accelerator.num_processes)
        for group, weight in dealt[accelerator.process_index]:
            yield collate(pairs, group).to(accelerator.device), weight
