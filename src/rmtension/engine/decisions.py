"""Decisions as in float32 from scores in bfloat16: what is close is scored again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray

from rmtension.base.device import arithmetic
from rmtension.engine.packing import Packed
from rmtension.engine.passes import Find, Halfway, candidate_values

logger = logging.getLogger(__name__)

Rewards = NDArray[np.float32]  # of candidates, in the order of their comparisons, chosen before rejected
Places = NDArray[np.int64]
SAMPLE = 64  # comparisons on which the error in bfloat16 is measured first
REACH = 2  # a difference of more than so many times the largest error seen is taken to have the right sign


def all_pairs(comparisons: Sequence[Packed]) -> tuple[Places, Places, Places]:
    """Of each pair of a chosen and a rejected candidate their places, and where each comparison's pairs begin."""
    chosen, rejected, starts, first, pairs = [], [], [], 0, 0
    for packed in comparisons:
        candidates = np.arange(first, first + len(packed.ends))
        of_chosen, of_rejected = candidates[: packed.n_chosen], candidates[packed.n_chosen :]
        chosen.append(np.repeat(of_chosen, len(of_rejected)))
        rejected.append(np.tile(of_rejected, len(of_chosen)))
        starts.append(pairs)
        first, pairs = first + len(candidates), pairs + len(chosen[-1])
    return np.concatenate(chosen), np.concatenate(rejected), np.array(starts)


def decide(
    rewards: Rewards, comparisons: Sequence[Packed], exact: Callable[[Sequence[Packed]], Rewards]
) -> NDArray[np.bool_]:
    """Score again the comparisons of which float32 might put a chosen and a rejected candidate the other way round.

    rewards: in bfloat16, changed in place; exact: the same of some comparisons in float32. Returns which of them were
    scored again. The error of a difference is measured on a drawn sample, and on all that it then makes doubtful, until
    nothing more is (docs/methods.md, section 6).
    """
    chosen, rejected, starts = all_pairs(comparisons)
    owner = np.repeat(np.arange(len(comparisons)), [len(packed.ends) for packed in comparisons])
    differences = rewards[chosen] - rewards[rejected]
    closest = np.minimum.reduceat(np.abs(differences), starts)
    again = np.zeros(len(comparisons), dtype=bool)
    doubtful = again.copy()
    doubtful[np.random.default_rng(0).permutation(len(comparisons))[:SAMPLE]] = True
    bound = 0.0
    while doubtful.any():
        rewards[doubtful[owner]] = exact(list(compress(comparisons, doubtful)))
        again |= doubtful
        errors = np.abs(rewards[chosen] - rewards[rejected] - differences)  # none where nothing was scored again
        bound = REACH * float(errors.max())
        doubtful = ~again & (closest <= bound)
    logger.info("float32 for %d of %d comparisons: closer than %.2g, or drawn", again.sum(), len(again), bound)
    return again


def precise_rewards(
    what: str,
    find: Find,
    only: Callable[[int], Find],
    comparisons: Sequence[Packed],
    rows: int,
    budget: int,
    precision: str,
    device: torch.device,
    halfway: Halfway | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Rewards [rows, candidates], and the precision [rows, comparisons] in which they were found.

    find: all rows of a batch; only: what finds one of them. In bfloat16, what float32 might decide otherwise is found
    in that; so is all of what is no more than the sample.
    """
    if precision == "bfloat16" and len(comparisons) <= SAMPLE:
        precision = "float32"
    with arithmetic(precision, device):
        rewards = candidate_values(what, find, comparisons, rows, np.float32, budget, device, halfway)
    precisions = np.full((rows, len(comparisons)), precision)
    for row in range(rows if precision == "bfloat16" else 0):

        def exact(some: Sequence[Packed], row: int = row) -> Rewards:
            with arithmetic("float32", device):
                [found] = candidate_values(f"{what} in float32", only(row), some, 1, np.float32, budget, device)
            return np.asarray(found)

        precisions[row, decide(rewards[row], comparisons, exact)] = "float32"
    return rewards, precisions
