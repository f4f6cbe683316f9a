"""Comparisons of benchmarks: published ones in their upstream layouts, a user's own files, and synthetic ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import polars as pl

from rmtension.base.errors import UserError
from rmtension.data import synthetic
from rmtension.data.comparisons import COMPARISONS, draw, read_comparisons
from rmtension.data.dialogues import REPLY
from rmtension.data.layout import Layout
from rmtension.data.rows import files_of, load_rows, read_rows, refuse_rows
from rmtension.data.tasks import TIES, tasks_of, unexpected_counts, wanted_tasks
from rmtension.study.benchmarks import PUBLISHED, OwnBenchmark, PublishedBenchmark, SyntheticBenchmark
from rmtension.study.section import nearest

logger = logging.getLogger(__name__)


def layout_of(benchmark: PublishedBenchmark | OwnBenchmark) -> Layout:
    """A user's own file is its own upstream."""
    if isinstance(benchmark, PublishedBenchmark):
        # By name: what depends on it, workflow/rules/common.smk says.
        module = import_module(f"rmtension.data.layouts.{PUBLISHED[benchmark.kind].layout}")
        layout: Layout = module.LAYOUT
        return layout
    named = benchmark.columns.model_dump(exclude_none=True)
    return Layout({"subset" if ours == "task" else ours: name for ours, name in named.items()})


def load_benchmark(benchmark: PublishedBenchmark | OwnBenchmark, layout: Layout, data_root: str) -> pl.DataFrame:
    """read_rows of a benchmark's files."""
    patterns = PUBLISHED[benchmark.kind].files if isinstance(benchmark, PublishedBenchmark) else ()
    files = files_of(benchmark.local(data_root), patterns)
    return read_rows({str(file): load_rows(file) for file in files}, layout.columns, benchmark.template)


def check_comparisons(frame: pl.DataFrame, layout: Layout, known: pl.Series) -> None:
    """UserError naming place and field where a comparison is not as upstream has it; `known`: its subsets."""
    unknown = frame.filter(~pl.col("subset").is_in(known.implode()))
    for place, subset in unknown.select("place", "subset").head(1).rows():
        field = layout.columns["subset"]
        raise UserError(f"{place}: field '{field}': unknown task '{subset}'; {nearest(subset, known)}")
    for side in ("chosen", "rejected") if "prompt" not in layout.columns else ():
        no_dialogue = ~pl.col(side).list.eval(pl.element().str.contains(REPLY)).list.all()
        refuse_rows(frame, no_dialogue, f"field '{layout.columns[side]}': no dialogue: it has no assistant's turn")
    for side, n in layout.responses.items():
        refuse_rows(frame, pl.col(side).list.len() != n, f"field '{layout.columns[side]}': not {n} texts")
    for fault, is_faulty in layout.faults.items():
        refuse_rows(frame, is_faulty, fault)


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


def all_tests(splits: Iterable[Path]) -> pl.DataFrame:
    """COMPARISONS of the test splits of several regimes; of a pair that several have, the first."""
    pairs = pl.concat(map(read_comparisons, splits)).unique("comparison_id", keep="first", maintain_order=True)
    return pairs.with_columns(task=pl.format("{} test pairs", "task"))  # what is their own test has the sources' names


Readable = SyntheticBenchmark | PublishedBenchmark | OwnBenchmark


def read_benchmark(name: str, benchmark: Readable, data_root: str) -> pl.DataFrame:
    """COMPARISONS of a benchmark other than regimes' test splits."""
    if not isinstance(benchmark, SyntheticBenchmark):
        return read_tasks(name, benchmark, data_root)
    frame = synthetic.benchmark(benchmark.per_task, benchmark.seed).with_row_index("row")
    return frame.with_columns(comparison_id=pl.format("{}/{}", pl.lit(name), "row")).select(*COMPARISONS)
