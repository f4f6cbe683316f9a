"""A pass over comparisons, batch by batch, that finds numbers of every candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from rmtension.base.memory import within_memory
from rmtension.base.progress import Progress
from rmtension.engine.packing import Batch, Packed, batches

Find = Callable[[Batch], Tensor]  # [rows, C] of the candidates of a batch, or [rows, T] of its tokens


def candidate_values(
    what: str, find: Find, comparisons: Sequence[Packed], rows: int, kind: DTypeLike, budget: int, device: torch.device
) -> NDArray[Any]:
    """All that `find` finds [rows, candidates], candidates in the order of `comparisons`, chosen before rejected.

    Batches are of at most `budget` tokens, or fewer where memory does not suffice.
    """
    sizes = [len(packed.ends) for packed in comparisons]
    return values(what, find, comparisons, sizes, rows, kind, budget, device)


def token_values(
    what: str, find: Find, comparisons: Sequence[Packed], rows: int, kind: DTypeLike, budget: int, device: torch.device
) -> NDArray[Any]:
    """The same of every token of packed comparisons [rows, tokens]."""
    return values(what, find, comparisons, list(map(len, comparisons)), rows, kind, budget, device)


@torch.inference_mode()
def values(
    what: str,
    find: Find,
    comparisons: Sequence[Packed],
    sizes: Sequence[int],
    rows: int,
    kind: DTypeLike,
    budget: int,
    device: torch.device,
) -> NDArray[Any]:
    """All that `find` finds, so many columns of each comparison."""
    ends = np.cumsum([0, *sizes])

    def one_pass(budget: int) -> NDArray[Any]:
        found = np.empty((rows, ends[-1]), dtype=kind)
        progress = Progress(what, len(comparisons), "comparisons")
        for batch in batches(comparisons, budget):
            columns = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in batch.index])
            found[:, columns] = find(batch.to(device)).cpu().numpy()
            progress.advance(len(batch.index), tokens=batch.tokens.numel())
        return found

    return within_memory(one_pass, budget, max(map(len, comparisons), default=0))[0]
