"""Where a result came from: the jobs behind it, by the records that they left, down to models and data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rmtension.base.errors import UserError
from rmtension.base.files import from_here, read_table
from rmtension.running.provenance import made_files, read_records
from rmtension.study.section import nearest

Record = Mapping[str, Any]
Where = Mapping[str, set[str]]  # wildcard of the rules -> its values

# Wildcard -> columns of the tables that hold its values.
NAMED_BY = {
    "model": ["model"], "regime": ["regime", "single", "first", "second"], "seed": ["seed"], "benchmark": ["benchmark"],
}  # fmt: skip


def in_study(place: Path) -> tuple[Path, Path]:
    """The folder of results that a file or folder belongs to, and its path in there."""
    for named in (from_here(place), place.resolve()):
        for folder in named.parents:
            if (folder / "provenance").is_dir():
                return folder, named.relative_to(folder)
    if (place / "provenance").is_dir():
        raise UserError(f"{place}: a study's whole folder: name a file in it, or one reward model's folder")
    raise UserError(f"{place}: no result of a study: no folder above it holds provenance/, where jobs leave records")


def wildcards_of(records: Iterable[Record]) -> dict[str, set[str]]:
    """Every wildcard of the records -> its values."""
    found: dict[str, set[str]] = {}
    for record in records:
        for key, value in record["wildcards"].items():
            found.setdefault(key, set()).add(value)
    return found


class Lineage:
    """The job that made a file or folder of results, and the jobs behind it, nearest first.

    Paths are those of the records: relative to the folder that the jobs ran in.
    """

    def __init__(self, place: Path) -> None:
        """UserError where no record says what made `place`."""
        self.place, (self.folder, asked) = place, in_study(place)
        self.all = read_records(self.folder / "provenance")
        self.makers = {path: name for name, record in self.all.items() for path in record["outputs"]}
        self.made = made_files(self.all)
        self.known = wildcards_of(self.all.values())
        self.results = next((Path("results", record["study"]["name"]) for record in self.all.values()), Path())
        recorded = [path for path in self.makers if Path(path).is_relative_to(self.results / asked)]
        makers = {self.makers[path] for path in recorded if self.in_results(path).exists()}
        if len(makers) != 1:
            several = f"{len(makers)} jobs have made what is in it: name a file, or one reward model's folder"
            raise UserError(f"{place}: {several if makers else 'it is not here, or no job has left a record of it'}")
        self.first = makers.pop()
        self.files = [path for path in recorded if self.makers[path] == self.first]
        self.follow({})

    def follow(self, where: Where) -> None:
        """Find the jobs behind the first; of what is gathered from many reward models, only those of `where`."""
        self.jobs = {self.first: self.all[self.first]}
        self.readers: dict[str, list[str]] = {}  # path -> the jobs that read it
        pending = [self.first]
        for job in pending:  # grows meanwhile
            record = self.all[job]
            gathers = record["wildcards"].keys().isdisjoint(where)
            for path in record["inputs"]:
                maker = self.makers.get(path)
                if gathers and maker and not self.agrees(maker, where):
                    continue
                self.readers.setdefault(path, []).append(job)
                if maker and maker not in self.jobs:
                    self.jobs[maker] = self.all[maker]
                    pending.append(maker)

    def agrees(self, job: str, where: Where) -> bool:
        return all(value in where.get(key, {value}) for key, value in self.all[job]["wildcards"].items())

    def restrict(self, where: Where) -> None:
        """Leave out the reward models, data and benchmarks that are not of `where`; UserError where none is."""
        for key, values in where.items():
            if key not in self.known:
                raise UserError(f"--where {key}: no job has '{key}'; {nearest(key, self.known)}")
            for value in values - self.known[key]:
                raise UserError(f"--where {key}={value}: no {key} '{value}'; {nearest(value, self.known[key])}")
        self.follow(where)

    def named_in_row(self, number: int) -> dict[str, set[str]]:
        """What a row of a table, from 0, names of its study; the mean over models names no model."""
        file = self.place.with_suffix(".parquet")
        if file.parent != self.place.parent or not file.is_file():
            raise UserError(f"{self.place}: --row is for tables")
        frame = read_table(file)
        if not 0 <= number < len(frame):
            raise UserError(f"{self.place}: --row {number}: rows are counted from 0 to {len(frame) - 1}")
        row = {column: str(cell) for column, cell in frame.row(number, named=True).items()}
        cells = {key: {row[column] for column in columns if column in row} for key, columns in NAMED_BY.items()}
        named = {key: values & self.known.get(key, set()) for key, values in cells.items()}
        return {key: values for key, values in named.items() if values}

    def is_inside(self, path: str) -> bool:
        return Path(path).is_relative_to(self.results)

    def in_results(self, path: str) -> Path:
        """Where a file of the results is now; they may have been moved."""
        return self.folder / Path(path).relative_to(self.results)
