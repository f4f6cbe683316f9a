"""What makes the records of a lineage doubtful: other files than they tell of, or unlike circumstances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from rmtension.running.lineage import Lineage
from rmtension.running.provenance import content
from rmtension.running.shown import code_of


def warnings(lineage: Lineage) -> list[str]:
    """A line for whatever makes the records doubtful: other files than they tell of, or unlike circumstances."""
    return [*changed(lineage), *unlike(lineage)]


def root_of(lineage: Lineage, outside: Iterable[str]) -> Path | None:
    """The folder that paths `outside` of the results start from, the one that jobs ran in; None if it is not known.

    Results that are linked from another disk have two places, and one of them says nothing of that folder.
    """
    for record in reversed(lineage.all.values()):
        folder = Path(record["study"].get("folder", ""))
        with suppress(OSError):
            if (folder / lineage.results).samefile(lineage.folder):
                return folder
    moved = lineage.folder.parent.parent
    return moved if any((moved / path).exists() for path in outside) else None


def changed(lineage: Lineage) -> Iterator[str]:
    """Files that are not what a job has left or read."""
    paths = dict.fromkeys([*lineage.files, *lineage.readers])
    outside = [path for path in paths if not lineage.is_inside(path) and not Path(path).is_absolute()]
    root = root_of(lineage, outside)
    if root is None and outside:
        yield (
            f"{len(outside)} files outside of the results, {outside[0]} the first, cannot be looked for: these "
            "results are not in the folder that their jobs ran in"
        )
    for path in paths:
        if lineage.is_inside(path):
            yield from changes(lineage, path, lineage.in_results(path))
        elif root is not None or path not in outside:
            yield from changes(lineage, path, (root or Path()) / path)


def changes(lineage: Lineage, path: str, file: Path) -> Iterator[str]:
    """Of one file, which is there now."""
    readers = lineage.readers.get(path, [])
    read = {job: lineage.all[job]["inputs"][path] for job in readers}
    entry = lineage.made.get(path) or read[readers[0]]
    if path not in lineage.made and lineage.is_inside(path):
        yield f"{path}: no job has left a record of it"
    if not file.exists():
        yield f"{path}: it is no longer there"
    elif content(file, entry)["sha256"] != entry["sha256"]:
        yield f"{path}: it was changed after {lineage.makers.get(path) or readers[0]}"
    for job in [job for job in readers if read[job]["sha256"] != entry["sha256"]]:
        yield f"{path}: {job} read it with another content"


def unlike(lineage: Lineage) -> Iterator[str]:
    """Differences between the runs behind the file that can show in its numbers."""
    runs = [(r["rule"], run) for r in lineage.jobs.values() for run in [*r["earlier"], r]]
    yield from differing("code", (code_of(run) for _, run in runs))
    edited = {file for _, run in runs for file in run["code"].get("changed", [])}
    if edited:
        yield f"code: changed since its commit: {', '.join(sorted(edited))}"
    for name in dict.fromkeys(name for _, run in runs for name in run["environment"]):
        yield from differing(name, (run["environment"][name] for _, run in runs if name in run["environment"]))
    for rule in dict.fromkeys(rule for rule, _ in runs):
        yield from differing(f"device of {rule}", (run["device"] for name, run in runs if name == rule))


def differing(what: str, found: Iterable[str]) -> Iterator[str]:
    """A line where not all of `found`, one for each job, are the same."""
    counts = Counter(found)
    if len(counts) > 1:
        yield f"{what}: {'; '.join(f'{value} ({n} of {counts.total()} runs)' for value, n in counts.items())}"
