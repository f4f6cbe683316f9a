"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from rmtension.errors import UserError

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
FULL = 2**16  # bytes that are free on a disk that counts as full


def existing(path: Path) -> Path:
    """The path itself; UserError where an earlier stage has not made it."""
    if not path.exists():
        raise UserError(f"{path}: no such file; run the stage that makes it first")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place when the block succeeds.

    Raises UserError where the disk is full or may not be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except Exception as error:
        if reason := why_unwritable(path, error):
            raise UserError(f"{path}: cannot be written: {reason}; mend that and start again") from error
        raise
    finally:
        remove(temporary)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` left beside it when they were killed."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        remove(leftover)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def why_unwritable(path: Path, error: Exception) -> str | None:
    """What the system has against writing `path`; libraries raise errors of their own where a disk is full."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return os.strerror(error.errno)
    place = next(folder for folder in path.parents if folder.exists())
    return os.strerror(errno.ENOSPC) if shutil.disk_usage(place).free < FULL else None


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        frame.write_parquet(temporary)


def write_text(text: str, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fingerprint(*parts: str | bytes | Path) -> str:
    """SHA-256 over the parts in order; a Path stands for the content of that file."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        else:
            content = hashlib.sha256(part.encode() if isinstance(part, str) else part).digest()
        digest.update(content)
    return digest.hexdigest()
