"""Checkpoints: written whole or not at all, and taken up only where they are just what was written."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch

from rmtension.base.files import replacing

logger = logging.getLogger(__name__)

DIGEST = hashlib.sha256().digest_size  # bytes at the end of the file: SHA-256 of all before them


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
        logger.warning("checkpoint %s is refused, so that all starts over: %s", file, reason)
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
