"""Tables for reading: as Markdown, as LaTeX, and all forms of a table as files beside one another."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import polars.selectors as cs

from rmtension.analysis.grids import in_plain_text, make_grid
from rmtension.analysis.latex import as_latex
from rmtension.base.files import replacing, write_parquet, write_text

# What is written in cells -> what it means.
MARKS = {" ± ": "±: standard deviation over seeds", " [": "[ ]: interval",
         "*": "*: q < 0.05 (p where there is no q)", "→": "→: the accuracy led to"}  # fmt: skip


def readable(table: pl.DataFrame) -> pl.DataFrame:
    """The table's reading form as plain text."""
    return make_grid(table, in_plain_text).cells


def as_markdown(table: pl.DataFrame) -> str:
    grid = make_grid(table, in_plain_text)
    heads = [column.head if column.group is None else column.name for column in grid.columns]
    rules = ["---" if column.is_text else "---:" for column in grid.columns]
    lines = [" | ".join(re.sub(r"\s+", " ", word).replace("|", "\\|") for word in line)
             for line in [heads, rules, *grid.cells.rows()]]  # fmt: skip
    notes = "; ".join(grid.legend(MARKS))
    return "".join(f"| {line} |\n" for line in lines) + (f"\n{notes}.\n" if notes else "")


def write_table(table: pl.DataFrame, path: Path) -> None:
    """The long table as parquet at `path` and as .csv beside it; its reading form as .md and .tex.

    A zero has no sign, which it would have in all of them.
    """
    floats = cs.float()
    table = table.with_columns(pl.when(floats == 0).then(0.0).otherwise(floats).name.keep())
    write_parquet(table, path)
    with replacing(path.with_suffix(".csv")) as temporary:
        table.write_csv(temporary)
    write_text(as_markdown(table), path.with_suffix(".md"))
    write_text(as_latex(table), path.with_suffix(".tex"))
