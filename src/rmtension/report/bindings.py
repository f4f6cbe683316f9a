"""Numbers in a text that are bound to cells of tables: found, compared, and put right.

A binding is a table, values of its columns that single out a row, and the columns of the numbers:
`tables/accuracy.parquet regime=helpful task=average mean low high`. docs/command-line.md has the grammar.
"""

from __future__ import annotations

import html
import math
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from rmtension.base.errors import UserError
from rmtension.base.files import reading, replacing
from rmtension.study.section import nearest

MINUS = "\N{MINUS SIGN}"
NUMBER = re.compile(
    rf"(?:(?<![^\W_])(?<![-{MINUS}.])[-+{MINUS}])?(?<![^\W_])(?<!\.)"
    r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\.?[^\W_])"
)
# What is no part of a number, whatever digits it holds: tags and entities, in LaTeX signs of its own.
MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|&#?\w+;")
INLINE = re.compile(r"</?(?:a|b|i|u|s|em|strong|span|sup|sub|small|code|mark|tt|font|var)\b", re.IGNORECASE)
TEX_MARKUP = re.compile(r"\\rmt(?![A-Za-z])\s*\{|\\textminus(?![A-Za-z])|\\[,;: ]|[~${}]")
HIDDEN, APART, SPACE, EN_DASH = "\0", "|", "\N{THIN SPACE}", "\N{EN DASH}"
DASHES = "-\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}\N{MINUS SIGN}\N{SMALL HYPHEN-MINUS}\N{FULLWIDTH HYPHEN-MINUS}"
# A minus that is not read as one; not the dash of a compound, of a range, or in Markdown of a list.
UNREAD = re.compile(rf"(?<![^\W_])(?<![{DASHES}])[{DASHES}]+[{HIDDEN}*_\s]*\Z")
RANGE = re.compile(rf"\d[{HIDDEN}*_%\s]*\Z")
ITEM = re.compile(rf"[ \t>]*(?:\d+[.)][ \t]+)?-[ \t]+[{HIDDEN}*_]*\Z")
# Digits before a group of three that the reader takes for a part of the number (1 234, 1'234), and before a comma.
GROUPED = re.compile(rf"(?<![\d.,])\d{{1,3}}[\s'\N{{RIGHT SINGLE QUOTATION MARK}}{HIDDEN}]+\Z")
BEFORE_COMMA = re.compile(r"(?<![\d.,])\d+,\Z")
BEHIND = re.compile(r"[\W_]*")  # what may stand between a number and what binds it
# Whichever begins first: in a block or a span of code a comment is no comment, and in a comment a backtick is no code.
COMMENT = r"<!--\s*(?P<comment>.*?)(?P<closed>-->|\Z)"
MARKDOWN = re.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*\n.*?(?:^ {0,3}(?P=fence)[`~]*[ \t\r]*$|\Z)"
    rf"|{COMMENT}"
    # Code in a line ends with its paragraph, item or row of a table.
    r"|(?<![`\\])(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*(?:\r?\n|[|>]|(?:[*+-]|#{1,6}|\d+[.)])[ \t])).)+?"
    r"(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
HTML = re.compile(COMMENT, re.DOTALL)
TEX = re.compile(
    r"(?<!\\)(?:\\\\)*%[^\n]*|\\rmt(?![A-Za-z])\s*\{(?P<numbers>[^{}]*)\}\s*\{(?P<said>[^{}]*)\}|(?P<open>\\rmt\s*\{)"
)
WORD = "rmtension:"
CLOSED = "--&gt;"  # the end of a comment, in one


class Bound(NamedTuple):
    """A binding in a text, and the text of which the last numbers are bound."""

    said: str
    start: int
    end: int


@dataclass
class Checked:
    """What came of a text: how many numbers were compared, which are wrong, bindings that name no cell, and the text
    with the right numbers."""

    count: int = 0
    wrong: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    text: str = ""


def bound_in(text: str, comments: re.Pattern[str] = MARKDOWN) -> Iterator[Bound]:
    """Of Markdown or HTML: the comments that begin with `rmtension:`, each of the text since the one before."""
    end = 0
    for found in comments.finditer(text):
        if (found["comment"] or "").startswith(WORD):
            said = found["comment"].removeprefix(WORD) if found["closed"] else ""
            said = re.sub(r"\s*\n\s*", " ", said).replace(r"\|", "|").replace(CLOSED, "-->")
            yield Bound(said.strip(), end, found.start())
            end = found.end()


def bound_in_tex(text: str) -> Iterator[Bound]:
    r"""Of LaTeX: \rmt{numbers}{binding}; comments are passed over."""
    for found in TEX.finditer(text):
        if found["said"] is not None:
            said = re.sub(r"\\([%_#&$])", r"\1", found["said"])
            yield Bound(" ".join(said.split()), *found.span("numbers"))
        elif found["open"]:
            yield Bound("", found.start(), found.start())


READ: Mapping[str, Callable[[str], Iterator[Bound]]] = {".tex": bound_in_tex, ".html": partial(bound_in, comments=HTML)}


def binding(table: str, keys: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The comment that binds numbers before it in Markdown; keys: column -> value, which single out a row."""
    values = (f"{key}={'' if value is None else value}" for key, value in keys.items())
    words = shlex.join([table, *values, *columns]).replace("-->", CLOSED).replace("|", r"\|")
    return f"<!-- {WORD} {words} -->"


class Cells:
    """Cells of the tables below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: dict[str, pl.DataFrame] = {}

    def values(self, said: str) -> list[Decimal]:
        """The numbers of the cells that a binding names; UserError where it does not name one row and its columns."""
        try:
            name, *words = shlex.split(said)
        except ValueError as error:
            raise UserError(f"the binding cannot be read: {error}") from error
        columns = [word for word in words if "=" not in word]
        if not columns:
            raise UserError(f"the binding names no column: {said}")
        table = self.table(name)
        keys = [(column_of(table, key, name), value) for key, _, value in (w.partition("=") for w in words if "=" in w)]
        row = row_of(table, keys, name)
        return [number_in(row, column_of(table, column, name), name) for column in columns]

    def table(self, name: str) -> pl.DataFrame:
        if name not in self.tables:
            path = self.folder / name
            if not path.is_file():
                raise UserError(f"{name}: no such table in {self.folder}")
            with reading(path):
                self.tables[name] = pl.read_parquet(path, glob=False)
        return self.tables[name]


def column_of(table: pl.DataFrame, word: str, name: str) -> str:
    """A column by its name, or by the end of it where that is of one alone: mean, of accuracy_mean."""
    if word in table.columns:
        return word
    ends = [column for column in table.columns if column.endswith(f"_{word}")]
    if len(ends) > 1:
        raise UserError(f"{name}: '{word}' is the end of several columns: {', '.join(ends)}")
    if not ends:
        raise UserError(f"{name}: no column '{word}'; {nearest(word, table.columns)}")
    return ends[0]


def row_of(table: pl.DataFrame, keys: Sequence[tuple[str, str]], name: str) -> dict[str, Any]:
    """The one row with these values; UserError where there is none or more than one."""
    rows = table
    for key, value in keys:
        if table[key].dtype.is_nested():
            raise UserError(f"{name}: column '{key}' holds lists, which tell no rows apart")
        kept = rows.filter(is_value(rows[key], value))
        if kept.is_empty():
            known = rows[key].cast(pl.String).fill_null("").unique(maintain_order=True).to_list()
            raise UserError(f"{name}: no row with {key}={value}; {nearest(value, known)}")
        rows = kept
    if len(rows) > 1:
        differing = [c for c in rows.columns if rows[c].dtype == pl.String and rows[c].n_unique() > 1]
        raise UserError(f"{name}: {len(rows)} rows, not one; they differ in {', '.join(differing) or 'no word'}")
    if rows.is_empty():
        raise UserError(f"{name}: no rows")
    return rows.row(0, named=True)


def is_value(column: pl.Series, value: str) -> pl.Series:
    """Where a column has that value: as a number if it holds numbers; an empty cell has the empty one."""
    if value and column.dtype.is_numeric():
        try:
            return column == float(value)
        except ValueError:
            return pl.repeat(False, len(column), eager=True)
    return column.cast(pl.String).fill_null("") == value


def number_in(row: Mapping[str, Any], column: str, name: str) -> Decimal:
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: the cell of column '{column}' holds no number but {value!r}")
    return Decimal(repr(value))


def as_number(shown: str) -> Decimal:
    return Decimal(shown.replace(",", "").replace(MINUS, "-"))


def is_right(shown: str, value: Decimal) -> bool:
    """Whether the number is the value, rounded to the digits that it is shown with; a half may go either way."""
    number = as_number(shown)
    sign = {"+": 1, "-": -1, MINUS: -1}.get(shown[0], 0)
    if not number and sign * value < 0:
        return False  # a zero of the other sign
    return abs(number - value) * 2 <= Decimal(1).scaleb(int(number.as_tuple().exponent))


def shown_as(value: Decimal, like: str) -> str:
    """The value with as many digits, and with the signs and commas, of a number that is shown."""
    unit = Decimal(1).scaleb(int(as_number(like).as_tuple().exponent))
    rounded = value.quantize(unit)
    sign = "+" if like.startswith("+") and value >= 0 else ""
    form = next((form for form in "eE" if form in like), ",f" if "," in like else "f")
    text = format(rounded if rounded else abs(rounded), sign + form)
    return MINUS + text[1:] if MINUS in like and text.startswith("-") else text


def check_text(file: Path, results: Path | None) -> Checked:
    """Compare each bound number of a text; tables lie below `results`, by default below the text's own folder."""
    with reading(file):
        text = file.read_bytes().decode("utf-8")
    cells, checked, pieces, done = Cells(results or file.parent), Checked(), [], 0
    plain = without_markup(text, file.suffix)
    for bound in READ.get(file.suffix, bound_in)(text):
        line = text.count("\n", 0, bound.end) + 1
        try:
            numbers, values = numbers_of(plain, bound, cells, file.suffix)
        except UserError as error:
            checked.faults.append(f"{file}:{line}: {error}")
            continue
        checked.count += len(values)
        for number, value in zip(numbers, values, strict=True):
            if not is_right(number[0], value):
                line, right = text.count("\n", 0, number.start()) + 1, shown_as(value, number[0])
                checked.wrong.append(f"{file}:{line}: {number[0]} stands here, {right} in {bound.said}")
                pieces += [text[done : number.start()], right]
                done = number.end()
    checked.text = "".join([*pieces, text[done:]])
    return checked


def without_markup(text: str, suffix: str) -> str:
    """A text of the same length, in which only signs and blanks are left of its markup."""
    if suffix == ".tex":
        return TEX_MARKUP.sub(lambda found: left_of_tex(found[0]).ljust(len(found[0]), HIDDEN), text)
    comments = HTML if suffix == ".html" else MARKDOWN  # in code there are none
    text = comments.sub(lambda one: one[0] if one["comment"] is None else APART * len(one[0]), text)
    return MARKUP.sub(lambda found: left_of(found[0]).ljust(len(found[0]), HIDDEN), text)


def left_of_tex(sign: str) -> str:
    return EN_DASH if sign == "\\textminus" else SPACE if sign[-1] in ",;: ~" else HIDDEN


def left_of(markup: str) -> str:
    """What a reader sees of a tag or an entity: a dash, a blank, something else, or nothing."""
    if markup[0] == "<":
        return HIDDEN if INLINE.match(markup) else APART
    sign = html.unescape(markup)
    return EN_DASH if sign and sign in DASHES else SPACE if sign.isspace() else APART


def refuse_unread(before: str, number: str, suffix: str) -> None:
    """UserError where what stands before a number in its line makes another one of it for a reader."""
    dash = UNREAD.search(before)
    is_list = suffix not in READ and ITEM.fullmatch(before)  # Markdown
    is_dash = suffix == ".tex" and dash and "--" in dash[0]
    if dash and not (is_list or is_dash or RANGE.search(before, 0, dash.start())):
        raise UserError(f"the sign of {number} is not read: write - or {MINUS} directly before it")
    of_three = re.match(r"\d{3}(?!\d)", number) and GROUPED.search(before)
    if of_three or ("." not in number and BEFORE_COMMA.search(before)):
        raise UserError(f"{number} may be the end of a longer number: write 1234 or 1,234")


def numbers_of(text: str, bound: Bound, cells: Cells, suffix: str) -> tuple[Sequence[re.Match[str]], list[Decimal]]:
    """The last numbers before a binding, and what they should be; UserError where either is not to be had."""
    if not bound.said:
        raise UserError("a binding that is empty, not closed, or has braces inside")
    values = cells.values(bound.said)
    numbers = [*NUMBER.finditer(text, bound.start, bound.end)][-len(values) :]
    behind = text[numbers[-1].end() : bound.end] if numbers else ""
    if len(numbers) < len(values) or not BEHIND.fullmatch(behind):
        raise UserError(f"not {len(values)} number(s) directly before the binding {bound.said}")
    for number in numbers:
        refuse_unread(text[text.rfind("\n", 0, number.start()) + 1 : number.start()], number[0], suffix)
    return numbers, values


def write_checked(file: Path, checked: Checked) -> None:
    """Put the text with its right numbers in the place of the file, a link's own file."""
    place = Path(os.path.realpath(file))
    with replacing(place) as temporary:
        temporary.write_bytes(checked.text.encode("utf-8"))
        shutil.copymode(place, temporary)
