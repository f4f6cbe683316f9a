"""The part of a study file that says what reward models are evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from rmtension.study.data import Columns
from rmtension.study.inputs import data_files, found
from rmtension.study.section import Count, Located, Place, Section, Seed

ALL = "all"  # every known task of a published benchmark


class Upstream(NamedTuple):
    """A published benchmark as its makers have it."""

    layout: str  # the module of data/layouts that says how its rows look
    files: tuple[str, ...]  # patterns of those that are read, from the root of its repository
    place: Mapping[str, str]  # its id on the `hub`; or as `path` a clone of its repository


PUBLISHED = {
    "reward-bench": Upstream("reward_bench", ("data/filtered-*.parquet",), {"hub": "allenai/reward-bench"}),
    "reward-bench-2": Upstream("reward_bench_2", ("data/test-*.parquet",), {"hub": "allenai/reward-bench-2"}),
    "rm-bench": Upstream("rm_bench", ("total_dataset.json",), {"hub": "THU-KEG/RM-Bench"}),
    "rmb-pairwise": Upstream("rmb_pairwise", ("**/Pairwise_set/**/*.json",), {"path": "RMB-Reward-Model-Benchmark"}),
    "rmb-best-of-n": Upstream("rmb_best_of_n", ("**/BoN_set/**/*.json",), {"path": "RMB-Reward-Model-Benchmark"}),
}
if TYPE_CHECKING:
    PublishedKind = str
else:
    PublishedKind = Literal[tuple(PUBLISHED)]


class RegimeTest(Section):
    """The regime's own test split, as a benchmark."""

    kind: Literal["regime-test"]


class AllTests(Section):
    """The test splits of all single-objective regimes, for every reward model: a task of each of their sources."""

    kind: Literal["all-tests"]


class SyntheticBenchmark(Section):
    kind: Literal["synthetic"]
    per_task: Count = Field(description="Comparisons of each task.")
    seed: Seed = Field(0, description="Seed of the generator.")


class PublishedBenchmark(Located):
    """A published benchmark in its upstream layout."""

    kind: PublishedKind
    tasks: list[str] | None = Field(
        None, min_length=1, description="Upstream subset names, or `all`; default: those with an orientation."
    )
    max_per_task: Count | None = Field(None, description="Keep this many comparisons a task, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")
    template: Literal["hh", "paper"] = Field("hh", description="hh: the training form; paper: the authors'.")

    def files(self, data_root: str) -> list[Path]:
        return found(self.local(data_root), PUBLISHED[self.kind].files)

    @model_validator(mode="after")
    def is_where_it_can_be(self) -> Self:
        if self.hub is not None and "hub" not in PUBLISHED[self.kind].place:
            raise ValueError(f"{self.kind} is not on the hub: give the 'path' of a clone of its authors' repository")
        return self

    @field_validator("tasks", mode="before")
    @classmethod
    def all_is_a_list_too(cls, tasks: Any) -> Any:
        return [ALL] if tasks == ALL else tasks


class TaskColumns(Columns):
    task: str | None = Field("task", description="The task's name; null: the whole file is the one task of `tasks`.")


class OwnBenchmark(Section):
    """A user's own file, parquet or JSON."""

    kind: Literal["own"]
    path: Place = Field(description="File or folder of shards, relative to data_root.")
    columns: TaskColumns = TaskColumns()
    tasks: dict[str, str] = Field(
        min_length=1, description="Task -> orientation: a single-objective regime, or `unoriented`."
    )
    max_per_task: Count | None = Field(None, description="Keep this many comparisons a task, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")
    template: Literal["hh", "paper"] = Field("hh", description="hh: the training form; paper: the authors'.")

    def local(self, data_root: str) -> Path:
        return Path(data_root) / self.path

    def files(self, data_root: str) -> list[Path]:
        return data_files(self.local(data_root))

    @model_validator(mode="after")
    def one_task_without_a_column(self) -> Self:
        if self.columns.task is None and len(self.tasks) > 1:
            raise ValueError("without columns.task the whole file is one task: 'tasks' names just that one")
        return self


Benchmark = Annotated[
    RegimeTest | AllTests | SyntheticBenchmark | PublishedBenchmark | OwnBenchmark, Field(discriminator="kind")
]
