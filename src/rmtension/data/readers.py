"""Readers: preference pairs and benchmarks from their upstream layouts, and from the synthetic generator."""

from __future__ import annotations

import codecs
import gzip
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import TypeAdapter, ValidationError

from rmtension.base.errors import UserError
from rmtension.base.files import fetched, reading
from rmtension.data import synthetic
from rmtension.data.comparisons import COMPARISONS, PAIRS, draw
from rmtension.data.dialogues import REPLY, Dialogue, Prompted, Words, fault_of
from rmtension.data.hygiene import opening, shared, sift
from rmtension.data.tasks import TIES, tasks_of, unexpected_counts, wanted_tasks
from rmtension.study.benchmarks import OwnBenchmark, PublishedBenchmark, SyntheticBenchmark
from rmtension.study.data import Columns, HHPairs, OwnPairs, RegimeData, SyntheticPairs
from rmtension.study.inputs import READS, SPLITS, data_files, found, whole_sets
from rmtension.study.section import nearest

logger = logging.getLogger(__name__)


# --- reading --------------------------------------------------------------------------------------------------


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


# --- preference pairs -----------------------------------------------------------------------------------------


def load_published(file: Path) -> list[Any]:
    """The rows of a published file of JSON lines. One with a fault is read by hand, so that its row can be named."""
    import datasets  # two seconds to import, and only this function needs it

    datasets.disable_progress_bars()
    try:
        data = datasets.load_dataset("json", data_files=str(file), split="train")
    except (datasets.exceptions.DatasetsError, OSError, EOFError, StopIteration, ValueError):
        return load_rows(file)
    whole = all(str(column.type) == "string" and column.null_count == 0 for column in data.data.table.columns)
    return data.to_list() if whole else load_rows(file)


def read_hh_pairs(source: HHPairs, split: Literal["train", "test"], data_root: str) -> pl.DataFrame:
    """row, chosen and rejected (whole dialogues) of one split of an HH-RLHF folder."""
    file, *others = files_of(source.local(data_root) / source.folder, SPLITS[split])
    if others:
        raise UserError(f"{file.parent}: {split} twice: {file.name} and {others[0].name}; keep one of them")
    return pairs_of({str(file): load_published(file)}, Columns(prompt=None))


def pairs_of(tables: Mapping[str, Sequence[Any]], columns: Columns) -> pl.DataFrame:
    """row, chosen and rejected (whole dialogues) of the rows of each file."""
    named = columns.model_dump(exclude_none=True)
    frame = read_rows(tables, named, "hh")
    for side in ("chosen", "rejected"):
        refuse_rows(frame, pl.col(side).list.len() > 1, f"field '{named[side]}': several texts in a pair")
    return frame.select("row", pl.col("chosen", "rejected").list.first())


def synthetic_pairs(source: SyntheticPairs, split: Literal["train", "test"]) -> pl.DataFrame:
    """row, chosen and rejected of one split; the two splits come from seeds of their own."""
    n = source.train if split == "train" else source.test
    seed = zlib.crc32(f"{source.seed} {split}".encode())
    return synthetic.preference_pairs(source.objective, n, seed).with_row_index("row")


def read_pairs(data: RegimeData, name: str, split: Literal["train", "test"]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One split of a named source: PAIRS, without those that are of no use; and HYGIENE of them all."""
    source = data.sources[name]
    match source:
        case SyntheticPairs():
            frame = synthetic_pairs(source, split)
        case HHPairs():
            frame = read_hh_pairs(source, split, data.data_root)
        case OwnPairs():
            files = files_of(Path(data.data_root) / getattr(source, split), split=split)
            frame = pairs_of({str(file): load_rows(file) for file in files}, source.columns)
    kept, odd = sift(frame, name, split)
    found = odd.filter(pl.col("n") > 0).select(pl.format("{} {} ({})", "n", "reason", "treatment"))
    logger.info("%s, %s: %d pairs, %s", name, split, len(frame), ", ".join(found.to_series()) or "nothing odd")
    if kept.is_empty():
        raise UserError(f"sources.{name}, {split}: no pair is of use: {', '.join(found.to_series())}")
    if not isinstance(source, SyntheticPairs):
        kept = draw(kept, getattr(source, f"max_{split}"), source.seed)
    words = {"source": pl.lit(name), "orientation": pl.lit(data.orientations[name])}
    ids = pl.format("{}/{}/{}", pl.lit(name), pl.lit(split), "row")
    return kept.select("chosen", "rejected", comparison_id=ids, **words).select(*PAIRS), odd


def hold_out(pairs: pl.DataFrame, fraction: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide pairs into train and validation by opening question, so that no question is in both.

    Pairs of one question are never split; `fraction` is of the questions, at least one.
    """
    questions = openings(pairs).unique().sort()
    order = np.random.default_rng(seed).permutation(len(questions))
    return divide(pairs, questions[order[: max(1, round(fraction * len(questions)))]])


def openings(pairs: pl.DataFrame) -> pl.Series:
    return pairs.select(opening(pl.col("chosen"))).to_series()


def divide(pairs: pl.DataFrame, questions: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs without and with one of the opening questions."""
    is_held = openings(pairs).is_in(questions.implode())
    return pairs.filter(~is_held), pairs.filter(is_held)


def regime_pairs(data: RegimeData) -> dict[str, pl.DataFrame]:
    """Every table of a regime's data: the splits, PAIRS each, and `hygiene`.

    Validation comes out of each source's train split, so that a mixed regime holds out what its parts hold out; a
    question that one source holds out is held out of all.
    """
    validation = data.validation
    read_train = [read_pairs(data, name, "train") for name in data.train]
    read_test = [read_pairs(data, name, "test") for name in data.test]
    held = pl.concat(hold_out(pairs, validation.fraction, validation.seed)[1] for pairs, _ in read_train)
    kept, held = divide(pl.concat(pairs for pairs, _ in read_train), openings(held))
    if kept.is_empty():
        raise UserError(
            f"sources.{', sources.'.join(data.train)}, train: too few opening questions to train and to validate"
        )
    train, test = pl.concat(pairs for pairs, _ in read_train), pl.concat(pairs for pairs, _ in read_test)
    return {
        "train": kept,
        "validation": held,
        "test": test,
        "hygiene": pl.concat([*(odd for _, odd in read_train + read_test), shared(train, test)]),
    }


# --- benchmarks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How the rows of a benchmark look upstream."""

    columns: Mapping[str, str]  # what we read -> what upstream calls it
    responses: Mapping[str, int]  # side -> number of texts, where it is fixed
    subset: str = "(.*)"  # the part of the column `subset` that the task goes by


FIELDS = {"subset": "subset", "prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
RMB = FIELDS | {"subset": "category_path", "prompt": "conversation_input"}
RMB_TASK = "^[^/]+/([^/]+/[^/]+)"  # of set/goal/task or set/goal/task/scenario
LAYOUTS = {
    "reward-bench": Layout(FIELDS, {"chosen": 1, "rejected": 1}),
    "reward-bench-2": Layout(FIELDS | {"id": "id"}, {}),
    "rm-bench": Layout(FIELDS | {"subset": "domain"}, {"chosen": 3, "rejected": 3}),
    "rmb-pairwise": Layout(RMB | {"rejected": "reject"}, {"chosen": 1, "rejected": 1}, RMB_TASK),
    "rmb-best-of-n": Layout(RMB | {"chosen": "bon_best", "rejected": "loser_list"}, {"chosen": 1}, RMB_TASK),
}


def layout_of(benchmark: PublishedBenchmark | OwnBenchmark) -> Layout:
    """A user's own file is its own upstream."""
    if isinstance(benchmark, PublishedBenchmark):
        return LAYOUTS[benchmark.kind]
    named = benchmark.columns.model_dump(exclude_none=True)
    return Layout({"subset" if ours == "task" else ours: name for ours, name in named.items()}, {})


def load_benchmark(benchmark: PublishedBenchmark | OwnBenchmark, layout: Layout, data_root: str) -> pl.DataFrame:
    """read_rows of a benchmark's files."""
    files = files_of(benchmark.local(data_root), READS[benchmark.kind])
    return read_rows({str(file): load_rows(file) for file in files}, layout.columns, benchmark.template)


def check_comparisons(frame: pl.DataFrame, layout: Layout, known: pl.Series) -> None:
    """UserError naming place and field where a comparison is not as upstream has it; `known`: its subsets."""
    unknown = frame.filter(~pl.col("subset").is_in(known.implode()))
    for place, subset in unknown.select("place", "subset").head(1).rows():
        field = layout.columns["subset"]
        raise UserError(f"{place}: field '{field}': unknown task '{subset}'; {nearest(subset, known)}")
    for side in ("chosen", "rejected") if "prompt" not in layout.columns else ():
        no_dialogue = ~pl.col(side).list.eval(pl.element().str.contains(REPLY, literal=True)).list.all()
        refuse_rows(frame, no_dialogue, f"field '{layout.columns[side]}': no dialogue: it has no assistant's turn")
    for side, n in layout.responses.items():
        refuse_rows(frame, pl.col(side).list.len() != n, f"field '{layout.columns[side]}': not {n} texts")
    if "id" in layout.columns:
        ties, name = pl.col("subset") == TIES, pl.col("id")
        refuse_rows(frame, ties & ~name.str.contains(r"^(ref|tied):\d+$"), "field 'id': neither ref:N nor tied:N")
        refuse_rows(frame, ties & name.is_duplicated(), "field 'id': that of another row")


def read_tasks(name: str, benchmark: PublishedBenchmark | OwnBenchmark, data_root: str) -> pl.DataFrame:
    """COMPARISONS of a benchmark that lies in files. Rows are keyed by their number: upstream ids can repeat."""
    layout, known, wanted = layout_of(benchmark), tasks_of(benchmark)["subset"], wanted_tasks(name, benchmark)
    only = pl.lit(None if "subset" in layout.columns else known[0])
    subset = pl.coalesce(only, pl.col("subset").str.extract(layout.subset), "subset")
    frame = load_benchmark(benchmark, layout, data_root).with_columns(subset=subset)
    check_comparisons(frame, layout, known)
    frame = frame.join(wanted, on="subset", maintain_order="left")
    for row in unexpected_counts(wanted, frame["task"]).iter_rows(named=True):
        expected = row["n_prompts"] or "some"
        logger.warning("%s: %d comparisons of %s where %s are expected", name, row["n"], row["task"], expected)
    is_named = (pl.col("subset") == TIES) & (pl.col("id") != "")
    parts = [pl.lit(name), "row", pl.when(is_named).then("id")]
    frame = frame.with_columns(comparison_id=pl.concat_str(parts, separator="/", ignore_nulls=True))
    drawn = pl.concat(draw(frame.filter(task=task), benchmark.max_per_task, benchmark.seed) for task in wanted["task"])
    if drawn.is_empty():
        place = benchmark.local(data_root)
        raise UserError(f"benchmarks.{name}.tasks: {place} has no row of them; name others or leave the benchmark out")
    return drawn.select(*COMPARISONS)


Readable = SyntheticBenchmark | PublishedBenchmark | OwnBenchmark


def read_benchmark(name: str, benchmark: Readable, data_root: str) -> pl.DataFrame:
    """COMPARISONS of a benchmark other than a regime's own test split."""
    if not isinstance(benchmark, SyntheticBenchmark):
        return read_tasks(name, benchmark, data_root)
    frame = synthetic.benchmark(benchmark.per_task, benchmark.seed).with_row_index("row")
    return frame.with_columns(comparison_id=pl.format("{}/{}", pl.lit(name), "row")).select(*COMPARISONS)
