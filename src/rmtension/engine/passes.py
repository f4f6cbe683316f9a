"""A pass over comparisons, batch by batch, that finds numbers of every candidate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from rmtension.base.checkpoints import read_checkpoint, write_checkpoint
from rmtension.base.memory import within_memory
from rmtension.base.progress import Progress
from rmtension.engine.packing import Batch, Packed, batches

logger = logging.getLogger(__name__)

Find = Callable[[Batch], Tensor]  # [rows, C] of the candidates of a batch, or [rows, T] of its tokens


class Halfway(NamedTuple):
    """Where a pass writes what it has found whenever so many minutes have passed, and goes on from when it is started
    again; key: stands for all that the values depend on."""

    file: Path
    minutes: float
    key: str = ""

    def write(self, found: NDArray[Any], batches: int, comparisons: int, budget: int) -> None:
        at = {"budget": budget, "batches": batches, "comparisons": comparisons}
        write_checkpoint({"key": self.key, "values": torch.from_numpy(found), **at}, self.file)

    def read(self) -> dict[str, Any] | None:
        """What `write` has written of this very pass, if it has."""
        content = read_checkpoint(self.file, self.key, {"key", "values", "budget", "batches", "comparisons"})
        if content is not None:
            logger.info("resuming after %d comparisons from %s", content["comparisons"], self.file)
        return content


def candidate_values(
    what: str,
    find: Find,
    comparisons: Sequence[Packed],
    rows: int,
    kind: DTypeLike,
    budget: int,
    device: torch.device,
    halfway: Halfway | None = None,
) -> NDArray[Any]:
    """All that `find` finds [rows, candidates], candidates in the order of `comparisons`, chosen before rejected.

    Batches are of at most `budget` tokens, or fewer where memory does not suffice.
    """
    sizes = [len(packed.ends) for packed in comparisons]
    return found_values(what, find, comparisons, sizes, rows, kind, budget, device, halfway)


@torch.inference_mode()
def found_values(
    what: str,
    find: Find,
    comparisons: Sequence[Packed],
    sizes: Sequence[int],
    rows: int,
    kind: DTypeLike,
    budget: int,
    device: torch.device,
    halfway: Halfway | None = None,
) -> NDArray[Any]:
    """All that `find` finds, so many columns of each comparison: one for each of its candidates, or of its tokens."""
    ends = np.cumsum([0, *sizes])
    before = halfway.read() if halfway else None

    def one_pass(budget: int) -> NDArray[Any]:
        taken = before if before and before["budget"] == budget else None
        found = taken["values"].numpy().copy() if taken else np.empty((rows, ends[-1]), dtype=kind)
        progress = Progress(what, len(comparisons), "comparisons", done=taken["comparisons"] if taken else 0)
        saved, done = time.monotonic(), taken["batches"] if taken else 0
        for number, batch in enumerate(islice(batches(comparisons, budget), done, None), start=done + 1):
            columns = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in batch.index])
            found[:, columns] = find(batch.to(device)).cpu().numpy()
            progress.advance(len(batch.index), tokens=batch.tokens.numel())
            if halfway and time.monotonic() - saved >= 60 * halfway.minutes:
                halfway.write(found, number, progress.done, budget)
                saved = time.monotonic()
        return found

    # Where memory did not suffice for more, it will not now.
    first = before["budget"] if before else budget
    return within_memory(one_pass, first, max(map(len, comparisons), default=0))[0]
