"""Which tasks a benchmark has, and of what orientation each is: the data of resources/, and a study's choice of it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rmtension.base.errors import UserError
from rmtension.base.files import RESOURCES, reading, require_columns
from rmtension.study.benchmarks import ALL, OwnBenchmark, PublishedBenchmark
from rmtension.study.naming import UNORIENTED
from rmtension.study.section import nearest

TASKS_FILE = RESOURCES / "paper" / "tasks.csv"
OTHER_TASKS_FILE = RESOURCES / "tasks.csv"  # those that are not of the paper
TASKS = {**dict.fromkeys(["benchmark", "subset", "task", "orientation"], pl.String()), "n_prompts": pl.Int64()}
TIES = "Ties"  # the subset of RewardBench 2 that has a formula of its own


def known_tasks(kind: str) -> pl.DataFrame:
    """subset, task, orientation, n_prompts (null where unknown) of every known subset, those of the paper first."""
    return pl.concat(
        read_tasks_file(file).filter(benchmark=kind).drop("benchmark") for file in (TASKS_FILE, OTHER_TASKS_FILE)
    )


def read_tasks_file(file: Path) -> pl.DataFrame:
    """benchmark and what known_tasks has."""
    with reading(file):
        frame = pl.read_csv(file)
    require_columns(file, frame.schema, TASKS, "; docs/adding-a-benchmark.md says what belongs into it")
    return frame.select(*TASKS)


def tasks_of(benchmark: PublishedBenchmark | OwnBenchmark) -> pl.DataFrame:
    """The same of a benchmark of a study; a user's own has the tasks that the study file gives it."""
    if isinstance(benchmark, PublishedBenchmark):
        return known_tasks(benchmark.kind)
    tasks, orientations = list(benchmark.tasks), list(benchmark.tasks.values())
    frame = pl.DataFrame({"subset": tasks, "task": tasks, "orientation": orientations})
    return frame.with_columns(n_prompts=pl.lit(None, pl.Int64))


def wanted_tasks(name: str, benchmark: PublishedBenchmark | OwnBenchmark) -> pl.DataFrame:
    """Of tasks_of, those that the study asks for, in its order."""
    known = tasks_of(benchmark)
    if isinstance(benchmark, OwnBenchmark) or benchmark.tasks == [ALL]:
        return known
    if benchmark.tasks is None:
        return known.filter(pl.col("orientation") != UNORIENTED)
    for subset in benchmark.tasks:
        if subset not in known["subset"]:
            raise UserError(f"benchmarks.{name}.tasks: unknown task '{subset}'; {nearest(subset, known['subset'])}")
    return pl.DataFrame({"subset": benchmark.tasks}).join(known, on="subset", maintain_order="left")


def unexpected_counts(wanted: pl.DataFrame, tasks: pl.Series) -> pl.DataFrame:
    """*wanted, n: the tasks of which `tasks`, one entry a comparison, has another number than is known, or none."""
    found = wanted.join(
        tasks.value_counts(name="n").rename({tasks.name: "task"}), on="task", how="left", maintain_order="left"
    )
    return found.with_columns(pl.col("n").fill_null(0)).filter(
        (pl.col("n") == 0) | (pl.col("n") != pl.col("n_prompts"))
    )


def subset_names(kind: str) -> pl.DataFrame:
    """task, subset: the upstream subset behind each task of a kind of benchmark."""
    return known_tasks(kind).select("task", "subset")
