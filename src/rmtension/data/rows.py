"""Rows of files, in whatever form and under whatever names they lie there, as dialogues under ours."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError

from rmtension.base.errors import UserError
from rmtension.base.files import fetched, reading
from rmtension.data.dialogues import Dialogue, Prompted, Words, fault_of
from rmtension.study.inputs import data_files, found, whole_sets


class Row(Prompted):
    """A comparison as it lies in a file, under our names."""

    chosen: list[Dialogue]
    rejected: list[Dialogue]
    subset: Words = ""
    id: Words = ""


ROWS = TypeAdapter(list[Row])


def files_of(path: Path, patterns: Sequence[str] = (), split: str = "") -> list[Path]:
    """The file itself; of a folder, what fits the patterns of the upstream layout, or without any the shards."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    files = whole_sets(found(path, patterns)) if patterns else data_files(path, split)
    if not files:
        raise UserError(f"{path}: a folder without {' or '.join(patterns)}")
    return files


PARQUET = (".parquet", ".pq")
FORM = "give each row as a mapping on a line of its own, or all in one array, in UTF-8"
Naming = Callable[[int], str]  # number of a row or line, counted from 0 -> what it is called
ROW: Naming = "row {}".format


def load_rows(file: Path) -> list[Any]:
    """The rows of a parquet or JSON file."""
    return [row for _, row in numbered_rows(file, ROW)]


def numbered_rows(file: Path, line: Naming) -> Iterator[tuple[str, Any]]:
    """Place and content of each row of a parquet or JSON file, the latter plain or gzipped."""
    name = file.name.lower()
    with reading(file), fetched(file) as content:
        if name.endswith(PARQUET):
            rows = pl.read_parquet(file, glob=False).iter_rows(named=True)
            yield from ((f"{file}: {ROW(number)}", row) for number, row in enumerate(rows))
        else:
            with gzip.open(content) if name.endswith(".gz") else content as plain:
                yield from json_rows(plain, str(file), line)


def json_rows(lines: Iterable[bytes], source: str, line: Naming) -> Iterator[tuple[str, Any]]:
    """Place and content of each row of JSON lines, read as they are asked for, or of a JSON array."""
    texts = (text.removeprefix(codecs.BOM_UTF8) for text in lines)
    numbered = ((f"{source}: {line(number)}", text) for number, text in enumerate(texts) if text.strip())
    for place, first in numbered:
        if first.lstrip().startswith(b"["):
            rows = parsed(b"".join([first, *(text for _, text in numbered)]), source)
            yield from ((f"{source}: {ROW(number)}", row) for number, row in enumerate(rows))
        else:
            yield place, parsed(first, place)
            yield from ((place, parsed(text, place)) for place, text in numbered)


def parsed(text: bytes, place: str) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: no JSON ({error}); {FORM}") from None


def checked(place: str, rows: Sequence[Any], columns: Mapping[str, str], template: str) -> list[Row]:
    """The rows with our names for `columns`; UserError naming place, row and field where one is not as it should be."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{place}: row {number}: no mapping of fields to values")
        for name in columns.values():
            if name not in row:
                raise UserError(f"{place}: row {number}: field '{name}' is missing; found {', '.join(row)}")
    try:
        named = [{ours: row[name] for ours, name in columns.items()} for row in rows]
        return ROWS.validate_python(named, context=template)
    except ValidationError as error:
        raise UserError(f"{place}: row {error.errors()[0]['loc'][0]}: {fault_of(error, columns)}") from None


def read_rows(tables: Mapping[str, Sequence[Any]], columns: Mapping[str, str], template: str) -> pl.DataFrame:
    """place (file and row), row (counted over all files), subset, id; chosen and rejected: lists of whole dialogues."""
    frames = []
    for place, rows in tables.items():
        for number, row in enumerate(checked(place, rows, columns, template)):
            words = {"place": f"{place}: row {number}", "subset": row.subset, "id": row.id}
            sides = {"chosen": row.chosen, "rejected": row.rejected}
            frames.append(words | {side: [one.text for one in several] for side, several in sides.items()})
    if not frames:
        raise UserError(f"{', '.join(tables)}: no rows")
    return pl.DataFrame(frames).with_row_index("row")


def refuse_rows(frame: pl.DataFrame, bad: pl.Expr, fault: str) -> None:
    """UserError naming the place and the fault of the first bad row, if there is one."""
    for place in frame.filter(bad)["place"].head(1):
        raise UserError(f"{place}: {fault}")
