"""A training's checkpoint: what it goes on from after it was cut off."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmtension.base.checkpoints import read_checkpoint, write_checkpoint
from rmtension.base.files import fingerprint
from rmtension.engine.lean import Kept
from rmtension.engine.placement import Replicated

logger = logging.getLogger(__name__)


@dataclass
class State:
    """What a checkpoint holds besides the model, the optimiser and the budget that the device takes.

    There is no random state: nothing is drawn while training. The head and the order of the pairs are the seed's, the
    data position is `step`, and so is the learning rate's.
    """

    best: Kept = field(default_factory=Kept)  # in the first process alone
    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)  # rows of training.parquet
    best_loss: float = math.inf

    def saved(self) -> dict[str, Any]:
        """All of it by name."""
        return {**vars(self), "best": self.best.get()}


def save(state: State, placed: Replicated, key: str, file: Path) -> None:
    """Write all that a training of this key needs to go on; every process calls it, the first one writes."""
    content = {
        "key": full_key(key, placed),
        "model": placed.weights(),
        "optimizer": placed.optimizer_state(),
        "budget": placed.budget,
    }
    if placed.accelerator.is_main_process:
        write_checkpoint(content | state.saved(), file)
    placed.accelerator.wait_for_everyone()


def resume(placed: Replicated, key: str, file: Path, best: Kept) -> State:
    """The state of a checkpoint of this very training, which model, optimiser and `best` take up; else a fresh one."""
    state = State(best)
    content = read_checkpoint(file, full_key(key, placed), {"key", "model", "optimizer", "budget", *vars(state)})
    if content is None:
        return state
    placed.restore(content["model"], content["optimizer"], content["budget"])
    if placed.accelerator.is_main_process:
        best.put(content["best"])
    state = State(**{name: content[name] for name in vars(state)} | {"best": best})
    logger.info("resuming after step %d from %s", state.step, file)
    return state


def full_key(key: str, placed: Replicated) -> str:
    """Hash of the key and of what else determines the bytes of the weights."""
    how = placed.accelerator
    kind = type(placed).__name__
    return fingerprint(f"{key} {how.device.type} {how.mixed_precision} {how.num_processes} {kind}")
