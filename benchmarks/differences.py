"""Where the figures of two runs of one study differ: python -m benchmarks.differences BEFORE AFTER.

BEFORE and AFTER are folders `results/STUDY`. Every parquet file is compared, but for times and for what stands for the
code. The exit status is 1 where anything differs.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

UNCOMPARED = ["seconds", "fingerprint"]


def tables(folder: Path) -> dict[str, pl.DataFrame]:
    """Path below the folder -> its parquet file, without the columns that differ from run to run."""
    files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*.parquet"))}
    return {name: pl.read_parquet(file, glob=False).drop(UNCOMPARED, strict=False) for name, file in files.items()}


def differences(before: pl.DataFrame, after: pl.DataFrame) -> Iterator[str]:
    """A line for each column that differs: in how many rows, or numbers of lists, and numbers by how much at most."""
    if before.schema != after.schema or len(before) != len(after):
        shapes = (f"{len(frame)} rows of {dict(frame.schema)}" for frame in (before, after))
        yield ", now ".join(shapes)
        return
    for one, other in zip(before, after, strict=True):
        if isinstance(one.dtype, pl.List):
            if not one.list.len().equals(other.list.len()):
                yield f"{one.name}: lists of other lengths"
                continue
            one, other = (lists.explode(empty_as_null=False) for lists in (one, other))
        if n := int(one.ne_missing(other).sum()):
            largest: Any = (one - other).abs().max() if one.dtype.is_float() else None
            yield f"{one.name}: {n:,} of {len(one):,}" + (f", by {largest:.3g} at most" if largest else "")


def compare(before: Path, after: Path) -> Iterator[str]:
    """A line for each file that is in one folder alone, and for each column that differs."""
    one, other = tables(before), tables(after)
    for name in sorted({*one, *other}):
        if name in one and name in other:
            yield from (f"{name}: {line}" for line in differences(one[name], other[name]))
        else:
            yield f"{name}: only {before if name in one else after} has it"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    for name in ("before", "after"):
        parser.add_argument(name, type=Path)
    chosen = parser.parse_args()
    for folder in (chosen.before, chosen.after):
        if not tables(folder):
            parser.error(f"{folder}: no parquet files; give the results of a study")
    found = list(compare(chosen.before, chosen.after))
    print(*(found or ["no difference"]), sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
