"""A training's checkpoint: written whole or not at all, and taken up only where it is just what was written."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rmtension.base.files import fingerprint, replacing
from rmtension.engine.lean import Kept
from rmtension.engine.placement import Replicated

logger = logging.getLogger(__name__)

DIGEST = hashlib.sha256().digest_size  # bytes at the end of the file: SHA-256 of all before them


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


def write_checkpoint(content: dict[str, Any], file: Path) -> None:
    """Tensors and plain values, on the disk when this returns. Its `key` stands for all that they depend on."""
    with replacing(file) as temporary:
        torch.save(content, temporary)
        with temporary.open("r+b") as written:
            digest = hashlib.file_digest(written, "sha256").digest()
            written.write(digest)
            written.flush()
            os.fsync(written.fileno())


def read_checkpoint(file: Path, key: str, fields: Set[str]) -> dict[str, Any] | None:
    """The content of that key and just these fields; None, with a warning that says why, where there is another."""
    if not file.exists():
        return None
    try:
        if not is_whole(file):
            raise ValueError("it is not as it was written")
        # Mapped, so that processes share it. torch does not mind the digest behind the end.
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if content["key"] != key:
            raise ValueError("it is of other settings, data, code, libraries or kind of device")
        if content.keys() != fields:
            raise ValueError("it is of another version")
    except Exception as error:  # torch raises many kinds, over several lines, for a file that is none of its own
        reason = str(error).partition("\n")[0]
        logger.warning("checkpoint %s is refused, training starts over: %s", file, reason)
        return None
    return content


def is_whole(file: Path) -> bool:
    """Whether a file ends with the digest of what stands before it."""
    left = file.stat().st_size - DIGEST
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while left > 0 and (block := content.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        return content.read() == digest.digest()
