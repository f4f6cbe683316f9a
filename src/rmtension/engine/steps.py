"""Which pairs go together: in a step of the optimiser, in one of several processes, in a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmtension.engine.packing import Lengths, group_by_length


def steps(n_pairs: int, pairs_per_step: int, epochs: int, seed: int) -> list[list[int]]:
    """The pairs of every optimiser step: each epoch a fresh random order of all pairs, its last step perhaps short."""
    orders = [np.random.default_rng([seed, epoch]).permutation(n_pairs).tolist() for epoch in range(epochs)]
    return [order[i : i + pairs_per_step] for order in orders for i in range(0, n_pairs, pairs_per_step)]


def learning_rate(step: int, n_steps: int, peak: float) -> float:
    """Linear decay without warm-up: `peak` at step 0, zero after the last."""
    return peak * (1 - step / n_steps)


def shares(lengths: Lengths, index: Sequence[int], budget: int, processes: int) -> list[list[tuple[list[int], int]]]:
    """The micro-batches of each process: which pairs, and their weight, 1 or 0.

    Pairs are dealt out by length, so that all have about as much to do. All make the same number of micro-batches, as
    sharded weights are gathered by all at once: where one has fewer, it repeats a shortest pair at weight 0.
    """
    by_length = sorted(index, key=lambda i: lengths[i])
    groups = [group_by_length(lengths, by_length[rank::processes], budget) for rank in range(processes)]
    most = max(map(len, groups))
    return [[(group, 1) for group in own] + [([by_length[0]], 0)] * (most - len(own)) for own in groups]
