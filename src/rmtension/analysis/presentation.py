"""Tables for reading: the long tables as grids of text, in Markdown and in LaTeX, whatever their columns are.

The form follows from the columns. Text columns and `percent` are keys; `<v>_mean` is a value, shown with `<v>_sd` or
`<v>_low` and `<v>_high`. One value is spread over the words of the first column of ACROSS that makes a full grid;
without such a column all values stand side by side, and a table without `_mean` columns is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise, takewhile
from math import ceil
from pathlib import Path

import polars as pl

from rmtension.base.files import replacing, write_parquet, write_text
from rmtension.base.pages import Rows, evenly, kept_together
from rmtension.study.naming import AVERAGE, OVERALL

# Column whose words become columns -> the one that groups them.
ACROSS = {"task": "orientation", "metric": "benchmark", "percent": "", "third": "", "benchmark": ""}
# Column -> number format; "+" marks a difference. z: a change that rounds to zero has no sign of its own.
FORMATS = (
    dict.fromkeys(["accuracy_mean", "baseline_mean", "ablated_mean", "share_mean", "value_mean"], ".1f")
    | dict.fromkeys(["delta_mean", "difference_mean"], "+z.1f")
    | dict.fromkeys(["n_neurons", "intersection_mean", "union_mean"], ",.0f")
    | dict.fromkeys(["rmsd", "rmsd_mean", "level_mean"], ".4f")
    | {"closeness_mean": "+z.2f", "chance": ".2f"}
)
FULL_TINT = {"delta_mean": 20, "difference_mean": 20}  # percentage points at which a cell's colour is strongest


# --- cells ----------------------------------------------------------------------------------------------------


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


def in_latex(cell: Cell) -> str:
    """What is coloured goes without its spread, so that a page of differences can be taken in at a glance."""
    text = escape(cell.text(cell.value))
    if isinstance(cell.value, float) and cell.column in FULL_TINT:
        strength = 5 * round(9 * min(1, abs(cell.value) / FULL_TINT[cell.column]))
        text = rf"\cellcolor{{{'blue' if cell.value > 0 else 'red'}!{strength}}}{text}"
    if cell.is_significant is not None:
        text += "*" if cell.is_significant else r"\phantom{*}"
    if cell.column not in FULL_TINT:
        text += ["", r"\,$\pm$\,{}", r"\,[{}, {}]"][len(cell.spread)].format(*map(escape, cell.spread))
    return text + ("" if cell.result is None else rf"$\to${cell.result:.1f}")


# What is written in cells -> what it means.
MARKS = {" ± ": "±: standard deviation over seeds", " [": "[ ]: interval",
         "*": "*: q < 0.05 (p where there is no q)", "→": "→: the accuracy led to"}  # fmt: skip
LATEX_MARKS = {r"$\pm$": r"$\pm$: standard deviation over seeds", r"\,[": "in brackets: interval",
               "*": "*: $q<0.05$ ($p$ where there is no $q$)", r"$\to$": r"$\to$: the accuracy led to"}  # fmt: skip
LATEX = {ord(c): f"\\{c}" for c in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}", ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}",
    ord("<"): "$<$", ord(">"): "$>$", ord("|"): "$|$", ord("\n"): " ",
    ord("["): "{[}", ord("*"): "{*}",  # at a row's beginning they would belong to the \\ before
}  # fmt: skip


def escape(text: str) -> str:
    """Text for LaTeX; letters beyond Latin ones, which pdflatex does not know, become question marks."""
    # A minus sign is one in mathematics only; in text it would be a hyphen.
    return re.sub(r"^-(?=[\d.])", "$-$", re.sub(r"[^\n -~\u00a1-\u017f]", "?", text).translate(LATEX))


# --- grids ----------------------------------------------------------------------------------------------------


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
    if is_difference(column):
        parts |= {"p": "p", "q": "q"}
    if column == "delta_mean":
        parts["result"] = "ablated_mean" if "ablated_mean" in table.columns else "accuracy_mean"
    known = table.select(pl.col(c).alias(part) for part, c in parts.items() if c in table.columns)
    cells = ["" if row["value"] is None else write(Cell(column, **row)) for row in known.iter_rows(named=True)]
    return pl.Series(column, cells, dtype=pl.String)


def make_grid(table: pl.DataFrame, write: Callable[[Cell], str]) -> Grid:
    """The table's reading form, its cells written by `write`."""
    means = [name for name in table.columns if name.endswith("_mean")]
    if not means:
        return side_by_side(table, table.columns, write)
    keys = [name for name, kind in table.schema.items() if kind == pl.String or name == "percent"]
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


# --- files ----------------------------------------------------------------------------------------------------

MOST_ROWS = 48  # of a tabular: beyond, tables are cut into several; long tables show the means over models alone
MOST_PRINTED = 6 * MOST_ROWS  # in all of a table's tabulars
LONGEST_HEADS = 90  # letters of a line of heads: beyond, they stand upright
# In points: the line of LaTeX's article and a little to spare, what is between columns, and where a text is broken.
LINE, BETWEEN, WIDEST_TEXT = 340, 6, 140


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


def as_latex(table: pl.DataFrame) -> str:
    """Tabulars no wider than the line, to be \\input; what all rows have in common stands in the note below them."""
    tabulars, notes = laid_out(table)
    if n_lines(tabulars) > MOST_ROWS and "model" in table.columns and OVERALL in table["model"]:
        table = table.filter(model=OVERALL)
        tabulars, notes = laid_out(table)
        notes.append("each model's own rows: in the csv file")
    if n_lines(tabulars) > MOST_PRINTED:
        table = table.head(len(table) * MOST_PRINTED // n_lines(tabulars))
        tabulars, notes = laid_out(table)
        notes.append("further rows: in the csv file")
    drawn = [tabular(*part) for part in tabulars]
    fitted = [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" + f"\n{t}}}\n" for t in drawn]
    start = "% Needs \\usepackage{booktabs,graphicx} and \\usepackage[table]{xcolor}.\n"
    start += "\\par\\begingroup\\scriptsize\\setlength{\\tabcolsep}{3pt}\\noindent\n"
    said = "; ".join(notes)
    note = f"\\par\\smallskip\\noindent {said[0].upper()}{said[1:]}.\n" if said else ""
    return start + "\\par\\medskip\\noindent\n".join(fitted) + note + "\\par\\endgroup\n"


def laid_out(table: pl.DataFrame) -> tuple[list[tuple[list[Drawn], Rows]], list[str]]:
    """The columns and rows of each of a table's tabulars, and the notes below them."""
    grid = make_grid(table, in_latex)
    cells, columns = grid.cells, grid.columns
    common = [c for c in columns if len(cells) > 1 and c.group is None and cells[c.name].n_unique() == 1]
    said = [f"{escape(c.head)}: {cells[c.name][0]}" for c in common if cells[c.name][0]]
    shown = [c for c in columns if c not in common] or columns[:1]
    upright = sum(len(c.head) for c in shown if c.group is not None) > LONGEST_HEADS
    drawn = [Drawn(c, cells[c.name].to_list(), upright and c.group is not None) for c in shown]
    tabulars = []
    for part in beside_each_other(drawn):
        rows = list(zip(*(one.cells for one in part), strict=True))
        most = MOST_ROWS // max(one.lines for one in part)
        tabulars += [(part, page) for page in kept_together(rows, most)]
    return tabulars, said + grid.legend(LATEX_MARKS)


def n_lines(tabulars: list[tuple[list[Drawn], Rows]]) -> int:
    return sum(max(column.lines for column in columns) * len(rows) for columns, rows in tabulars)


@dataclass(frozen=True)
class Drawn:
    """A column of a grid with its cells in LaTeX."""

    column: Column
    cells: list[str]
    upright: bool  # its head

    @cached_property
    def letters(self) -> float:
        """Points that the longest cell takes."""
        return max((points(cell) for cell in self.cells), default=0) * (1.15 if self.column.head == AVERAGE else 1)

    @cached_property
    def room(self) -> float:
        """Points: long texts are broken between words."""
        word = max((points(word) for cell in self.cells for word in cell.split()), default=0)
        return min(self.letters, max(WIDEST_TEXT, word)) if self.column.is_text else self.letters

    @cached_property
    def lines(self) -> int:
        """Of the highest cell."""
        return max(1, ceil(self.letters / max(self.room, 1)))

    @cached_property
    def width(self) -> float:
        return BETWEEN + max(8 if self.upright else points(self.column.head), self.room)


def points(text: str) -> float:
    """About as wide as LaTeX shows a text in 7 points, the size of all tables."""
    shown = re.sub(r"(?:\\,)?\$\\(?:to|pm)\$(?:\\,)?", "m", text)
    shown = re.sub(r"\\cellcolor\{.*?\}|\\(?:phantom|[a-z]+)|[\\${}]", "", shown)
    capitals = sum(map(str.isupper, shown))
    wide, narrow = (sum(map(shown.count, letters)) for letters in ("mw", "fijlt .,:;[]()-"))
    return 6.7 * wide + 5.6 * capitals + 2.7 * narrow + 4 * (len(shown) - wide - capitals - narrow)


def beside_each_other(columns: list[Drawn]) -> list[list[Drawn]]:
    """Columns in parts that fit into the line, those of a group in as few and as even ones as can be; in each part the
    keys, the columns in front by which the rows are known."""

    def width(part: list[Drawn]) -> float:
        groups = groupby(part, key=lambda c: c.column.group)
        return sum(max(sum(c.width for c in members), BETWEEN + points(group or "")) for group, members in groups)

    if width(columns) <= LINE:
        return [columns]
    keys = [c for c in columns if c.column.group is None]
    if len(keys) == len(columns):
        rows = list(zip(*(c.cells for c in columns), strict=True))
        keys = columns[: next((n for n in range(1, len(columns)) if len({row[:n] for row in rows}) == len(rows)), 1)]
    others = columns[len(keys) :]
    if width(keys) > 0.7 * LINE:  # rows are known by their number
        numbers = [str(n + 1) for n in range(len(columns[0].cells))]
        keys, others = [Drawn(Column("row", "row"), numbers, upright=False)], columns
    found = list[list[Drawn]]()
    for _, members in groupby(others, key=lambda c: c.column.group):
        group = [*members]
        cuts = (evenly(group, most) for most in range(len(group), 0, -1))
        cut = next((cut for cut in cuts if all(width([*keys, *part]) <= LINE for part in cut)), evenly(group, 1))
        found += [[*keys, *part] for part in cut]
    return found


def tabular(drawn: list[Drawn], rows: Rows) -> str:
    """Heads under those of their groups; rules between rows that begin differently."""
    columns = [one.column for one in drawn]

    def head(one: Drawn) -> str:
        text = (r"\bfseries " if one.column.head == AVERAGE else "") + escape(one.column.head)
        turned = rf"\rotatebox{{90}}{{{text}}}" if one.upright else text
        return text if one.column.group is None else rf"\multicolumn{{1}}{{c}}{{{turned}}}"

    def kind(one: Drawn) -> str:
        if one.lines > 1:
            return rf">{{\raggedright\arraybackslash}}p{{{one.room:.0f}pt}}"
        return "l" if one.column.is_text else r">{\bfseries}r" if one.column.head == AVERAGE else "r"

    spans, rules, heads = list[str](), list[str](), list[str]()
    for group, members in groupby(drawn, key=lambda one: one.column.group or ""):
        below = [*map(head, members)]
        spans.append(rf"\multicolumn{{{len(below)}}}{{c}}{{{escape(group)}}}")
        rules += [rf"\cmidrule(lr){{{len(heads) + 1}-{len(heads) + len(below)}}}"] if group else []
        heads += below
    above = [" & ".join(spans) + r" \\", "".join(rules)] if rules else []
    lines = [rf"\begin{{tabular}}{{{''.join(map(kind, drawn))}}}", r"\toprule", *above, " & ".join(heads) + r" \\"]
    # What the row above says, the last of the words in front excepted, is not said again.
    words = max(0, len([*takewhile(lambda c: c.is_text, columns)]) - 1)
    blocks = len({row[0] for row in rows}) < len(rows)
    for before, row in pairwise([(), *rows]):
        same = len([*takewhile(lambda pair: pair[0] == pair[1], zip(before[:words], row, strict=False))])
        lines += [r"\midrule"] if not before or (blocks and before[0] != row[0]) else []
        lines.append(" & ".join([*[""] * same, *row[same:]]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def write_table(table: pl.DataFrame, path: Path) -> None:
    """The long table as parquet at `path` and as .csv beside it; its reading form as .md and .tex."""
    write_parquet(table, path)
    with replacing(path.with_suffix(".csv")) as temporary:
        table.write_csv(temporary)
    write_text(as_markdown(table), path.with_suffix(".md"))
    write_text(as_latex(table), path.with_suffix(".tex"))
