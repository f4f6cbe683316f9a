"""Activation statistics of as many pairs as it takes: until the neurons that come first stay the same."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from rmtension.base.memory import within_memory
from rmtension.engine.activations import Statistics, Sums, add_batch
from rmtension.engine.packing import Packed, batches
from rmtension.neurons.ranking import ATTRIBUTIONS, NEURON, neuron_scores, oriented_set, ranking

logger = logging.getLogger(__name__)

FIRST, MORE = 64, 0.25  # pairs before the first look, and the share of those read that is read before each next one


class Standing(NamedTuple):
    """When statistics stand still: the sets of the top percent of neurons, of two halves of the pairs, agree."""

    least: float  # Jaccard index of the two sets
    scoring: str  # one that takes no attributions
    percent: float
    magnitude: str  # what `magnitude` is: mean_abs or mean


def spans(n: int) -> Iterator[range]:
    """What of n pairs is read before each look."""
    done = 0
    while done < n:
        span = range(done, min(n, max(FIRST, done + math.ceil(MORE * done))))
        yield span
        done = span.stop


def first_neurons(sums: Sums, standing: Standing) -> set[tuple[int, int]]:
    """layer and neuron of the oriented set that the sums make."""
    none = pl.DataFrame(schema=ATTRIBUTIONS)
    ranked = ranking(neuron_scores(sums.statistics().neurons, none, standing.magnitude, [0]), standing.scoring)
    first = oriented_set(ranked.with_columns(scoring=pl.lit(standing.scoring)), standing.scoring, standing.percent)
    return set(first.select(NEURON).iter_rows())


def agreement(halves: Sequence[Sums], standing: Standing) -> float:
    """Jaccard index of the two halves' sets."""
    one, other = (first_neurons(half, standing) for half in halves)
    return len(one & other) / max(1, len(one | other))


@torch.inference_mode()
def stable_statistics(
    standing: Standing,
    seed: int,
    trained: Any,
    base: Any | None,
    comparisons: Sequence[Packed],
    budget: int,
    device: torch.device,
) -> Statistics:
    """As activations.activation_statistics, of the first so many comparisons, in an order drawn by `seed`, after which
    every other one of them and the rest rank the same neurons first, within `standing`; of all where that is never so.

    The neurons' frame has three columns more: n_pairs and of_pairs, how many of how many were read, and agreement (see
    above), null of less than two.
    """
    order = np.random.default_rng(seed).permutation(len(comparisons))

    def one_pass(budget: int) -> Statistics:
        halves = [Sums(trained.config, base is not None, device) for _ in range(2)]
        n_pairs, found = 0, None
        for span in spans(len(comparisons)):
            for half, sums in enumerate(halves):
                for batch in batches([comparisons[order[i]] for i in span if i % 2 == half], budget):
                    add_batch(sums, trained, base, batch.to(device))
            n_pairs = span.stop
            found = agreement(halves, standing) if n_pairs > 1 else None
            logger.info("%d pairs: the sets of two halves agree by %s", n_pairs, found)
            if found is not None and found >= standing.least:
                break
        else:
            logger.warning("all %d pairs were read: their halves do not agree by %g", n_pairs, standing.least)
        neurons, heads = halves[0].plus(halves[1]).statistics()
        counts = {"n_pairs": pl.lit(n_pairs, pl.Int32), "of_pairs": pl.lit(len(comparisons), pl.Int32)}
        return Statistics(neurons.with_columns(**counts, agreement=pl.lit(found, pl.Float64)), heads)

    return within_memory(one_pass, budget, max(map(len, comparisons), default=0))[0]
