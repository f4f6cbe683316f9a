"""The comparison table: one prompt with chosen and rejected responses a row, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from rmtension.base.files import ANY, read_table, scan_table

# Preference pairs: chosen and rejected are whole dialogues.
PAIRS = dict.fromkeys(["comparison_id", "chosen", "rejected", "source", "orientation"], pl.String())
# Comparisons of a benchmark: chosen and rejected are lists of whole dialogues.
COMPARISONS = {
    **dict.fromkeys(["comparison_id", "task", "orientation"], pl.String()),
    **dict.fromkeys(["chosen", "rejected"], pl.List(pl.String())),
}


def draw(frame: pl.DataFrame, most: int | None, seed: int) -> pl.DataFrame:
    """At most `most` rows, drawn by `seed`, in their original order."""
    if most is None or len(frame) <= most:
        return frame
    return frame[np.sort(np.random.default_rng(seed).permutation(len(frame))[:most])]


def evenly(comparisons: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The rows in an order drawn by `seed`, in which tasks take turns as long as they have rows.

    comparisons: with benchmark and task.
    """
    draw = pl.Series(np.random.default_rng(seed).permutation(len(comparisons)))
    turn = pl.col("draw").rank("ordinal").over("benchmark", "task")
    return comparisons.with_columns(draw=draw).sort(turn, "draw").drop("draw")


def as_comparisons(frame: pl.DataFrame) -> pl.DataFrame:
    """A table of pairs in the form of a benchmark: one task a source, lists of one text. Others pass unchanged."""
    if "source" not in frame.columns:
        return frame
    lists = [pl.concat_list("chosen"), pl.concat_list("rejected")]
    return frame.rename({"source": "task"}).with_columns(lists).select(*COMPARISONS)


def read_comparisons(path: Path) -> pl.DataFrame:
    """COMPARISONS of a file of them, or of one of pairs."""
    is_pairs = "source" in scan_table(path, ANY).collect_schema()
    return as_comparisons(read_table(path, PAIRS if is_pairs else COMPARISONS))


def read_judged(files: Mapping[str, Iterable[str]]) -> pl.DataFrame:
    """`benchmark` and COMPARISONS of the files of each benchmark; what several of them hold is there once."""
    frames = []
    for benchmark, paths in files.items():
        frame = pl.concat(read_comparisons(Path(path)) for path in paths)
        once = frame.unique("comparison_id", keep="first", maintain_order=True)
        frames.append(once.select(pl.lit(benchmark).alias("benchmark"), *COMPARISONS))
    return pl.concat(frames)
