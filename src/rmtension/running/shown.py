"""What is shown of a lineage: how the file itself was made, the jobs behind it, and what they started from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from rmtension.running.lineage import Lineage, Record, wildcards_of

SHOWN = 12  # digits of a hash that tell it from others


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
        return f"{code['version']}, no commit: {code['no_commit']}"
    return f"{code['commit'][:SHOWN]}, {'changed' if code['changed'] else 'clean'}"


def about(lineage: Lineage) -> dict[str, str]:
    """How the file itself was made."""
    record = lineage.all[lineage.first]
    job = [record["rule"], *(f"{key}={value}" for key, value in record["wildcards"].items())]
    study, versions = record["study"], record["environment"].items()
    return {
        "made by": f"{' '.join(job)}, on {record['device']}",
        "time": f"{record['started'][:19]} to {record['ended'][:19]} UTC",
        "study": f"{study['name']}, from {', '.join(study['files'])}, settings {study['sha256'][:SHOWN]}",
        "code": code_of(record),
        "versions": ", ".join(f"{name} {version}" for name, version in versions),
    } | {f"sha256 of {path}": record["outputs"][path]["sha256"] for path in lineage.files}


def rules(lineage: Lineage) -> pl.DataFrame:
    """rule, jobs, of (wildcards), code, device, started_utc (the first), ended_utc (the last)."""
    by_rule: dict[str, list[Record]] = {}
    for record in lineage.jobs.values():
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


def origins(lineage: Lineage) -> pl.DataFrame:
    """rule, of, what: the models and data that the jobs start from, as the study names them, and linked folders."""
    rows = []
    for record in lineage.jobs.values():
        of = ", ".join(record["wildcards"].values())
        whats = [f"{name}: {in_words(section)}" for name, section in sections(record["params"])]
        links = {str(Path(file["link"]).parent) for file in record["outputs"].values() if "link" in file}
        rows += [(record["rule"], of, what) for what in [*whats, *(f"links to {link}" for link in sorted(links))]]
    return pl.DataFrame(rows, ["rule", "of", "what"], orient="row")


def roots(lineage: Lineage) -> pl.DataFrame:
    """file, made by (a rule), sha256: the files of models and data, and those that no job has made."""
    rows = []
    for path, readers in lineage.readers.items():
        maker = lineage.jobs[lineage.makers[path]] if path in lineage.makers else None
        if maker is None or any(sections(maker["params"])):
            sha256 = lineage.all[readers[0]]["inputs"][path]["sha256"]
            rows.append((path, maker["rule"] if maker else "", sha256[:SHOWN]))
    return pl.DataFrame(rows, ["file", "made by", "sha256"], orient="row")
