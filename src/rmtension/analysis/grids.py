"""The reading form of a long table: a grid of text, whatever its columns are.

The form follows from the columns. Text columns, `percent` and `count` are keys; `<v>_mean` is a value, shown with
`<v>_sd` or `<v>_low` and `<v>_high`. One value is spread over the words of the first column of ACROSS that makes a full
grid; without such a column all values stand side by side, and a table without `_mean` columns is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from rmtension.study.naming import AVERAGE

# Column whose words become columns -> the one that groups them.
ACROSS = {"task": "orientation", "metric": "benchmark", "percent": "", "third": "", "benchmark": ""}
# Column -> number format; "+" marks a difference. z: a change that rounds to zero has no sign of its own.
FORMATS = (
    dict.fromkeys(["accuracy_mean", "baseline_mean", "ablated_mean", "share_mean", "value_mean"], ".1f")
    | dict.fromkeys(["target_mean", "repaired_mean"], ".1f")
    | dict.fromkeys(["delta_mean", "difference_mean", "gap_mean", "gain_mean"], "+z.1f")
    | dict.fromkeys(["n_neurons", "intersection_mean", "union_mean"], ",.0f")
    | dict.fromkeys(["rmsd", "rmsd_mean", "level_mean"], ".4f")
    | {"closeness_mean": "+z.2f", "chance": ".2f", "squared_ce_change_mean": "z.3f"}
    | dict.fromkeys(["recovery_difference_mean", "cosine_difference_mean", "opposed_difference_mean"], "+z.2f")
)


@dataclass(frozen=True)
class Cell:
    """A word, or a number and what its row of the table says of it."""

    column: str
    value: str | float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    n_seeds: int | None = None
    p: float | None = None
    q: float | None = None
    result: float | None = None  # the accuracy that a delta leads to

    @property
    def is_significant(self) -> bool | None:
        """None where nothing was tested. Averages, which are not among several tests, have a p and no q."""
        chance = self.p if self.q is None else self.q
        return None if chance is None else chance < 0.05

    @property
    def spread(self) -> list[str]:
        """Standard deviation or the interval's ends, whichever is at hand; of a difference the interval first."""
        ends = [] if self.low is None or self.high is None else [self.low, self.high]
        sd = [] if self.sd is None or self.n_seeds == 1 else [self.sd]
        return [self.text(v).removeprefix("+") for v in (ends or sd if is_difference(self.column) else sd or ends)]

    def text(self, value: str | float) -> str:
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, str):
            return value
        if self.column == "percent":
            return f"{value:g} %"
        # Without a format of their own means have two decimals, of a zero without a sign; other numbers what they need.
        large = isinstance(value, int) or abs(value) >= 1000
        plain = "z.2f" if self.column.endswith("_mean") else ",.0f" if large else ".4g"
        return format(value, FORMATS.get(self.column, plain))


def is_difference(column: str) -> bool:
    return FORMATS.get(column, "").startswith("+")


def in_plain_text(cell: Cell) -> str:
    star = "*" if cell.is_significant else ""
    spread = ["", " ± {}", " [{}, {}]"][len(cell.spread)].format(*cell.spread)
    return cell.text(cell.value) + star + spread + ("" if cell.result is None else f" → {cell.result:.1f}")


@dataclass(frozen=True)
class Column:
    """A column of a grid. Those over which a value is spread say their group, others None."""

    name: str
    head: str
    is_text: bool = False
    group: str | None = None


@dataclass(frozen=True)
class Grid:
    """The reading form of a table, every cell of it text."""

    cells: pl.DataFrame
    columns: list[Column]

    def legend(self, marks: dict[str, str]) -> list[str]:
        """What the marks mean that occur in the grid's numbers."""
        numbers = self.cells.select(column.name for column in self.columns if not column.is_text)
        text = "".join(cell for row in numbers.iter_rows() for cell in row).replace(r"\phantom{*}", "")
        return [meaning for mark, meaning in marks.items() if mark in text]


def head(column: str) -> str:
    return re.sub("^n_|_mean$", "", column).replace("_", " ")


def texts(table: pl.DataFrame, column: str, write: Callable[[Cell], str]) -> pl.Series:
    """A column's cells as text, with the deviations, tests, ... that the table has for it."""
    parts, name = {"value": column}, column.removesuffix("_mean")
    if name != column:
        parts |= {part: f"{name}_{part}" for part in ("sd", "low", "high")} | {"n_seeds": "n_seeds"}
    if is_difference(column) and "q" in table.columns:  # or several tests stand there, and no p allows for it
        parts |= {"p": "p", "q": "q"}
    if column == "delta_mean":
        parts["result"] = "ablated_mean" if "ablated_mean" in table.columns else "accuracy_mean"
    known = table.select(pl.col(c).alias(part) for part, c in parts.items() if c in table.columns)
    rows = known.rows()
    written = dict.fromkeys(rows, "")  # words are there many times
    for row in written:
        if row[0] is not None:
            written[row] = write(Cell(column, **dict(zip(known.columns, row, strict=True))))
    return pl.Series(column, [written[row] for row in rows], dtype=pl.String)


NUMBERS = ("percent", "count", "layer", "left", "right")  # keys that are no words


def make_grid(table: pl.DataFrame, write: Callable[[Cell], str]) -> Grid:
    """The table's reading form, its cells written by `write`."""
    means = [name for name in table.columns if name.endswith("_mean")]
    if not means:
        return side_by_side(table, table.columns, write)
    if "count" in table.columns and table["count"].count() == 0:  # sizes are percents alone
        table = table.drop("count")
    keys = [name for name, kind in table.schema.items() if kind == pl.String or name in NUMBERS]
    for across, group in ACROSS.items():
        rows = [key for key in keys if key not in (across, group)]
        heads = [name for name in (group, across) if name in table.columns]
        is_whole = across in heads and not table[across].null_count()
        if is_whole and table.n_unique(rows) * table.n_unique(heads) <= 2 * len(table):
            value = next(filter(is_difference, means), means[0])
            return spread(table, rows, heads, value, write)
    hidden = {re.sub("mean$", part, name) for name in means for part in ("sd", "low", "high")} | {"n_seeds", "p", "q"}
    return side_by_side(table, [name for name in table.columns if name not in hidden], write)


def side_by_side(table: pl.DataFrame, names: list[str], write: Callable[[Cell], str]) -> Grid:
    """Columns as they are; a mean says so in its head where another column is of its name."""
    heads = [("mean " if name.removesuffix("_mean") in {*names} - {name} else "") + head(name) for name in names]
    cells = {text: texts(table, name, write) for text, name in zip(heads, names, strict=True)}
    kinds = [table.schema[name] == pl.String for name in names]
    return Grid(pl.DataFrame(cells), [Column(h, h, is_text) for h, is_text in zip(heads, kinds, strict=True)])


def spread(table: pl.DataFrame, rows: list[str], heads: list[str], value: str, write: Callable[[Cell], str]) -> Grid:
    """One value over the words of the last of `heads`, within those of the first; averages last in their group."""
    if "n_neurons" in table.columns and table.n_unique(rows) == table.n_unique([*rows, "n_neurons"]):
        rows = [*rows, "n_neurons"]
    words = pl.DataFrame([texts(table, name, in_plain_text) for name in heads])
    found = words.unique(maintain_order=True).rows()
    groups = [word[0] if len(heads) == 2 else "" for word in found]
    found.sort(key=lambda word: (groups.index(word[0] if len(heads) == 2 else ""), word[-1] == AVERAGE))
    kind = " tasks" if heads[0] == "orientation" else ""
    columns = [Column(": ".join(word), word[-1], group=word[0] + kind if len(heads) == 2 else "") for word in found]
    long = {row: texts(table, row, write) for row in rows} | {"cell": texts(table, value, write)}
    names = words.select(pl.concat_str(pl.all(), separator=": ").alias("head"))
    cells = pl.DataFrame(long).hstack(names).pivot("head", index=rows, values="cell").fill_null("")
    keys = [Column(row, head(row), table.schema[row] == pl.String) for row in rows]
    return Grid(cells.select(*rows, *(column.name for column in columns)), keys + columns)
