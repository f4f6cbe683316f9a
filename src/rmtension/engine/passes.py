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

Find = Callable[[Batch], Tensor]  # [rows, C] of the candidates of a batch


@torch.inference_mode()
def candidate_values(
    what: str, find: Find, comparisons: Sequence[Packed], rows: int, kind: DTypeLike, budget: int, device: torch.device
) -> NDArray[Any]:
    """All that `find` finds [rows, candidates], candidates in the order of `comparisons`, chosen before rejected.

    Batches are of at most `budget` tokens, or fewer where memory does not suffice.
    """
    ends = np.cumsum([0, *(len(packed.ends) for packed in comparisons)])

    def one_pass(budget: int) -> NDArray[Any]:
        values = np.empty((rows, ends[-1]), dtype=kind)
        progress = Progress(what, len(comparisons), "comparisons")
        for batch in batches(comparisons, budget):
            columns = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in batch.index])
            values[:, columns] = find(batch.to(device)).cpu().numpy()
            progress.advance(len(batch.index), tokens=batch.tokens.numel())
        return values

    return within_memory(one_pass, budget, max(map(len, comparisons), default=0))[0]
