"""Where a result came from: the records of the jobs behind it, down to models and data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from rmtension.base.errors import UserError
from rmtension.base.files import from_here
from rmtension.running.provenance import content, made_files, read_records
from rmtension.study.section import nearest

Record = Mapping[str, Any]
Where = Mapping[str, set[str]]  # wildcard of the rules -> its values

# Wildcard -> columns of the tables that hold its values.
NAMED_BY = {
    "model": ["model"], "regime": ["regime", "single", "first", "second"], "seed": ["seed"], "benchmark": ["benchmark"],
}  # fmt: skip
SHOWN = 12  # digits of a hash that tell it from others


def in_study(place: Path) -> tuple[Path, Path]:
    """The folder of results that a file or folder belongs to, and its path in there."""
    for named in (from_here(place), place.resolve()):
        for folder in named.parents:
            if (folder / "provenance").is_dir():
                return folder, named.relative_to(folder)
    raise UserError(f"{place}: no result of a study: no folder above it holds provenance/, where jobs leave records")


def wildcards_of(records: Iterable[Record]) -> dict[str, set[str]]:
    """Every wildcard of the records -> its values."""
    found: dict[str, set[str]] = {}
    for record in records:
        for key, value in record["wildcards"].items():
            found.setdefault(key, set()).add(value)
    return found


def sections(params: Any, name: str = "") -> Iterator[tuple[str, Record]]:
    """The parts of a job's params that say of what kind a model or data are, by the key that they stand under."""
    if isinstance(params, dict) and "seeds" not in params:  # not of a whole study, which the jobs behind it are of
        if "kind" in params:
            yield name, params
        for key, part in params.items():
            yield from sections(part, key)


def in_words(section: Record) -> str:
    """What a part of the study says, without what it leaves open."""
    said = {key: value for key, value in section.items() if value not in (None, [], {})}
    kind = [said.pop("kind")] if "kind" in said else []
    parts = {key: f"({in_words(value)})" if isinstance(value, dict) else value for key, value in said.items()}
    return ", ".join([*kind, *(f"{key} {value}" for key, value in parts.items())])


def code_of(run: Record) -> str:
    """The code of a run in a few words."""
    code = run["code"]
    if "commit" not in code:
        return f"{code['version']}, no commit: {code.get('no_commit', 'of a version that did not say why')}"
    return f"{code['commit'][:SHOWN]}, {'changed' if code['changed'] else 'clean'}"


def differing(what: str, found: Iterable[str]) -> Iterator[str]:
    """A line where not all of `found`, one for each job, are the same."""
    counts = Counter(found)
    if len(counts) > 1:
        yield f"{what}: {'; '.join(f'{value} ({n} of {counts.total()} runs)' for value, n in counts.items())}"


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

    # --- the jobs ---------------------------------------------------------------------------------------------

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
        frame = pl.read_parquet(file)
        if not 0 <= number < len(frame):
            raise UserError(f"{self.place}: --row {number}: rows are counted from 0 to {len(frame) - 1}")
        row = {column: str(cell) for column, cell in frame.row(number, named=True).items()}
        cells = {key: {row[column] for column in columns if column in row} for key, columns in NAMED_BY.items()}
        named = {key: values & self.known.get(key, set()) for key, values in cells.items()}
        return {key: values for key, values in named.items() if values}

    # --- what to show -----------------------------------------------------------------------------------------

    def about(self) -> dict[str, str]:
        """How the file itself was made."""
        record = self.all[self.first]
        job = [record["rule"], *(f"{key}={value}" for key, value in record["wildcards"].items())]
        study, versions = record["study"], record["environment"].items()
        return {
            "made by": f"{' '.join(job)}, on {record['device']}",
            "time": f"{record['started'][:19]} to {record['ended'][:19]} UTC",
            "study": f"{study['name']}, from {', '.join(study['files'])}, settings {study['sha256'][:SHOWN]}",
            "code": code_of(record),
            "versions": ", ".join(f"{name} {version}" for name, version in versions),
        } | {f"sha256 of {path}": record["outputs"][path]["sha256"] for path in self.files}

    def rules(self) -> pl.DataFrame:
        """rule, jobs, of (wildcards), code, device, started_utc (the first), ended_utc (the last)."""
        by_rule: dict[str, list[Record]] = {}
        for record in self.jobs.values():
            by_rule.setdefault(record["rule"], []).append(record)
        return pl.DataFrame(
            {
                "rule": rule,
                "jobs": len(records),
                "of": "; ".join(f"{k} {', '.join(sorted(v))}" for k, v in wildcards_of(records).items()),
                "code": "; ".join(sorted({code_of(record) for record in records})),
                "device": ", ".join(sorted({record["device"] for record in records})),
                "started_utc": min(record["started"] for record in records)[:19],
                "ended_utc": max(record["ended"] for record in records)[:19],
            }
            for rule, records in by_rule.items()
        )

    def origins(self) -> pl.DataFrame:
        """rule, of, what: the models and data that the jobs start from, as the study names them, and linked folders."""
        rows = []
        for record in self.jobs.values():
            of = ", ".join(record["wildcards"].values())
            whats = [f"{name}: {in_words(section)}" for name, section in sections(record["params"])]
            links = {str(Path(file["link"]).parent) for file in record["outputs"].values() if "link" in file}
            rows += [(record["rule"], of, what) for what in [*whats, *(f"links to {link}" for link in sorted(links))]]
        return pl.DataFrame(rows, ["rule", "of", "what"], orient="row")

    def roots(self) -> pl.DataFrame:
        """file, made by (a rule), sha256: the files of models and data, and those that no job has made."""
        rows = []
        for path, readers in self.readers.items():
            maker = self.jobs[self.makers[path]] if path in self.makers else None
            if maker is None or any(sections(maker["params"])):
                sha256 = self.all[readers[0]]["inputs"][path]["sha256"]
                rows.append((path, maker["rule"] if maker else "", sha256[:SHOWN]))
        return pl.DataFrame(rows, ["file", "made by", "sha256"], orient="row")

    # --- what is not as it should be --------------------------------------------------------------------------

    def warnings(self) -> list[str]:
        """A line for whatever makes the records doubtful: other files than they tell of, or unlike circumstances."""
        return [*self.changed(), *self.unlike()]

    def is_inside(self, path: str) -> bool:
        return Path(path).is_relative_to(self.results)

    def in_results(self, path: str) -> Path:
        """Where a file of the results is now; they may have been moved."""
        return self.folder / Path(path).relative_to(self.results)

    def root(self, outside: Iterable[str]) -> Path | None:
        """The folder that paths `outside` of the results start from, the one that jobs ran in; None if it is not known.

        Results that are linked from another disk have two places, and one of them says nothing of that folder.
        """
        for record in reversed(self.all.values()):
            folder = Path(record["study"].get("folder", ""))
            with suppress(OSError):
                if (folder / self.results).samefile(self.folder):
                    return folder
        moved = self.folder.parent.parent
        return moved if any((moved / path).exists() for path in outside) else None

    def changed(self) -> Iterator[str]:
        """Files that are not what a job has left or read."""
        paths = dict.fromkeys([*self.files, *self.readers])
        outside = [path for path in paths if not self.is_inside(path) and not Path(path).is_absolute()]
        root = self.root(outside)
        if root is None and outside:
            yield (
                f"{len(outside)} files outside of the results, {outside[0]} the first, cannot be looked for: these "
                "results are not in the folder that their jobs ran in"
            )
        for path in paths:
            if self.is_inside(path):
                yield from self.changes(path, self.in_results(path))
            elif root is not None or path not in outside:
                yield from self.changes(path, (root or Path()) / path)

    def changes(self, path: str, file: Path) -> Iterator[str]:
        """Of one file, which is there now."""
        readers = self.readers.get(path, [])
        read = {job: self.all[job]["inputs"][path] for job in readers}
        entry = self.made.get(path) or read[readers[0]]
        if path not in self.made and self.is_inside(path):
            yield f"{path}: no job has left a record of it"
        if not file.exists():
            yield f"{path}: it is no longer there"
        elif content(file, entry)["sha256"] != entry["sha256"]:
            yield f"{path}: it was changed after {self.makers.get(path) or readers[0]}"
        for job in [job for job in readers if read[job]["sha256"] != entry["sha256"]]:
            yield f"{path}: {job} read it with another content"

    def unlike(self) -> Iterator[str]:
        """Differences between the runs behind the file that can show in its numbers."""
        runs = [(r["rule"], run) for r in self.jobs.values() for run in [*r["earlier"], r]]
        yield from differing("code", (code_of(run) for _, run in runs))
        changed = {file for _, run in runs for file in run["code"].get("changed", [])}
        if changed:
            yield f"code: changed since its commit: {', '.join(sorted(changed))}"
        for name in dict.fromkeys(name for _, run in runs for name in run["environment"]):
            yield from differing(name, (run["environment"][name] for _, run in runs if name in run["environment"]))
        for rule in dict.fromkeys(rule for rule, _ in runs):
            yield from differing(f"device of {rule}", (run["device"] for name, run in runs if name == rule))
