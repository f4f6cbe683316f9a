"""Tables in LaTeX: tabulars no wider than the line, cut into several where they are long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise, takewhile
from math import ceil

import polars as pl

from rmtension.analysis.grids import Cell, Column, make_grid
from rmtension.base.pages import Rows, evenly, kept_together
from rmtension.study.naming import AVERAGE, OVERALL

FULL_TINT = {"delta_mean": 20, "difference_mean": 20}  # percentage points at which a cell's colour is strongest
MOST_ROWS = 48  # of a tabular: beyond, tables are cut into several; long tables show the means over models alone
MOST_PRINTED = 6 * MOST_ROWS  # in all of a table's tabulars
LONGEST_HEADS = 90  # letters of a line of heads: beyond, they stand upright
# In points: the line of LaTeX's article and a little to spare, what is between columns, and where a text is broken.
LINE, BETWEEN, WIDEST_TEXT = 340, 6, 140
LATEX_MARKS = {r"$\pm$": r"$\pm$: standard deviation over seeds", r"\,[": "in brackets: interval",
               "*": "*: $q<0.05$ ($p$ where there is no $q$)", r"$\to$": r"$\to$: the accuracy led to"}  # fmt: skip
LATEX = {ord(c): f"\\{c}" for c in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}", ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}",
    ord("<"): "$<$", ord(">"): "$>$", ord("|"): "$|$", ord("\n"): " ",
    ord("["): "{[}", ord("*"): "{*}",  # at a row's beginning they would belong to the \\ before
}  # fmt: skip


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


def escape(text: str) -> str:
    """Text for LaTeX; letters beyond Latin ones, which pdflatex does not know, become question marks."""
    # A minus sign is one in mathematics only; in text it would be a hyphen.
    return re.sub(r"^-(?=[\d.])", "$-$", re.sub(r"[^\n -~\u00a1-\u017f]", "?", text).translate(LATEX))


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
        return max(map(points, {*self.cells}), default=0) * (1.15 if self.column.head == AVERAGE else 1)

    @cached_property
    def room(self) -> float:
        """Points: long texts are broken between words."""
        if not self.column.is_text:
            return self.letters
        word = max((points(word) for cell in {*self.cells} for word in cell.split()), default=0)
        return min(self.letters, max(WIDEST_TEXT, word))

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
