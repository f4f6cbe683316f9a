"""What a study will take: jobs, hours, memory and disk of each rule, and on what assumptions. Nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import polars as pl

from rmtension.running.amounts import BYTES, KNOWN, Amounts, UnknownError
from rmtension.running.prices import FilePrices, GradientPrices, Machines, Price, ScoringPrices, without_model
from rmtension.study.explored import explored, read_along
from rmtension.study.measured import compared_objectives, patched_on, scored_on
from rmtension.study.models import Compute
from rmtension.study.places import fetched
from rmtension.study.study import Study

SCHEMA = {
    "rule": pl.String, "jobs": pl.Int64, "gpu_hours": pl.Float64, "cpu_hours": pl.Float64,
    "longest_hours": pl.Float64, "memory_gb": pl.Float64, "disk_gb": pl.Float64, "unpriced": pl.Int64,
}  # fmt: skip
ON_CPU = ("backbone", "check_given", "adopt", "merge")  # with a model's threads, but on no GPU
GENERAL = [
    "operations: 2 a token and parameter outside embeddings, and attention, for a forward pass; 3 such for training",
    "memory of a job on a GPU is the GPU's, else the machine's; checkpoints of training, deleted after it, take another"
    f" {BYTES['training']} bytes a parameter on disk for every training that runs",
    "rules without a model: seconds as measured on the small study of the tests; tables, by the size of what they read",
    "not counted: downloads, the hub's cache, waiting in a queue, and whatever runs twice",
]


class Plan(NamedTuple):
    rules: pl.DataFrame  # SCHEMA; longest_hours of one job, memory_gb of one job at its peak, unpriced: jobs
    total: pl.DataFrame  # the same, one row
    assumptions: list[str]
    problems: list[str]  # what cannot be priced, and what does not fit


# Rule, number of jobs alike, the model that they run on its device, and what prices one of them.
Job = tuple[str, int, str | None, Callable[[], Price]]


class Planner:
    """Every job of one study, with its price."""

    def __init__(self, study: Study, device: str | None, utilisation: float | None) -> None:
        self.study, self.amounts = study, Amounts(study)
        self.machines = Machines(self.amounts, device, utilisation)
        self.files = FilePrices(self.amounts, self.machines)
        self.gradients = GradientPrices(self.amounts, self.machines)
        self.scoring = ScoringPrices(self.amounts, self.machines)
        self.problems: dict[str, None] = {}  # in the order in which they are met

    def jobs(self) -> Iterator[Job]:
        study = self.study
        missing = {file for file in fetched(study).values() if not file.exists()}
        if missing:
            yield "fetch", len(missing), None, partial(without_model, "fetch")
        for regime in study.regimes:
            yield "data", 1, None, partial(self.files.data, regime)
        for _ in study.plain_regimes():
            yield "words", 1, None, partial(without_model, "words")
        for benchmark, settings in study.benchmarks.items():
            if settings.kind != "regime-test":
                yield "benchmark_comparisons", 1, None, partial(self.files.benchmark_comparisons, benchmark)
        for model in study.models:
            rule = "check_given" if study.given else "backbone"
            yield rule, 1, model, partial(self.files.backbone, model)
            yield "lengths", 1, None, partial(without_model, "lengths")
        for model, regime in product(study.models, study.regimes):
            if regime not in study.with_models():
                yield "ensemble", len(study.seeds), model, partial(self.scoring.ensemble, model, regime)
                continue
            seeds, adopted = len(study.seeds), len(study.models[model].trained.get(regime, {}))
            rule, there = ("put_given", seeds) if study.given else ("adopt", adopted)
            if there:
                yield rule, there, None if study.given else model, partial(without_model, rule)
            if seeds > there and study.regimes[regime].method == "merged":
                yield "merge", seeds - there, model, partial(self.files.merge, model)
            elif seeds > there:
                yield "train", seeds - there, model, partial(self.gradients.train, model, regime)
                if study.regimes[regime].method == "frozen":
                    yield "select_frozen", seeds - there, None, partial(self.files.rankings, model, "select_frozen")
            if regime in study.with_neurons():
                yield from self.of_neurons(model, regime)
            for benchmark in scored_on(study):
                yield "evaluate", seeds, model, partial(self.scoring.evaluate, model, regime, benchmark)
            for _, benchmark in (of for of in patched_on(study) if of[0] == regime):
                yield "patch", seeds, model, partial(self.scoring.patch, model, regime, benchmark)
            if compared_objectives(study, regime):
                yield "conflict", seeds, model, partial(self.gradients.conflict, model, regime)
        for model in study.models:
            for regime in explored(study):
                yield "passages", 1, model, partial(self.scoring.passages, model, regime)
            for regime in read_along(study):
                yield "running_rewards", 1, model, partial(self.scoring.running_rewards, model, regime)
        for rule in ("answer_key", "data_cards", "cards", "tables", "claims", "figures", "report_page", "explore"):
            yield rule, 1, None, self.files.tables if rule == "tables" else partial(without_model, rule)

    def of_neurons(self, model: str, regime: str) -> Iterator[Job]:
        """Of a regime's reward models, what ranks and selects their neurons."""
        study, seeds = self.study, len(self.study.seeds)
        yield "activations", seeds, model, partial(self.scoring.activations, model, regime)
        if study.neurons.takes_attributions:
            yield "attribution", seeds, model, partial(self.gradients.attribution, model, regime)
        for rule in ("neurons", "select_sets", "select"):
            yield rule, seeds, None, partial(self.files.rankings, model, rule)
        yield "set_activations", seeds, model, partial(self.scoring.set_activations, model, regime)

    def priced(self) -> Iterator[dict[str, Any]]:
        for rule, jobs, model, price in self.jobs():
            row = {"rule": rule, "jobs": jobs, "gpu_hours": 0.0, "cpu_hours": 0.0}
            try:
                seconds, memory, disk = price()
            except UnknownError as reason:
                self.problems[str(reason)] = None
                yield row | {"unpriced": jobs}
                continue
            compute = self.study.models[model].compute if model else Compute()
            device = self.machines.device_of(model) if model and rule not in ON_CPU else KNOWN["devices"]["cpu"]
            on_gpu = "cores" not in device
            if on_gpu and memory > device["memory_gb"] * 1e9:
                needs = f"{memory / 1e9:.0f} GB of memory, a {device['name']} has {device['memory_gb']}"
                self.problems[f"{rule} of {model} does not fit: {needs}"] = None
            held = self.machines.processes(rule, model) if on_gpu and model else compute.threads
            row["gpu_hours" if on_gpu else "cpu_hours"] = jobs * held * seconds / 3600
            yield row | {"longest_hours": seconds / 3600, "memory_gb": memory / 1e9, "disk_gb": jobs * disk / 1e9}


def make_plan(study: Study, device: str | None = None, utilisation: float | None = None) -> Plan:
    """Price every job of a study. Sums leave out what could not be priced, which is named."""
    planner = Planner(study, device, utilisation)
    amounts, peaks = ["jobs", "gpu_hours", "cpu_hours", "disk_gb", "unpriced"], ["longest_hours", "memory_gb"]
    rows = pl.from_dicts(list(planner.priced()), schema=SCHEMA)
    rules = rows.group_by("rule", maintain_order=True).agg(pl.col(amounts).sum(), pl.col(peaks).max())
    total = rows.select(pl.lit("total").alias("rule"), pl.col(amounts).sum(), pl.col(peaks).max())
    return Plan(
        rules.select(*SCHEMA), total.select(*SCHEMA), [*planner.amounts.assumptions, *GENERAL], [*planner.problems]
    )
