"""What a study did not measure, why, and the line of its study file that would measure it: holes are results, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import inf

import polars as pl
import yaml

from rmtension.analysis.claims import CLAIMS, OF_TRAINING
from rmtension.analysis.evidence import NO_INTERVAL, NO_VERDICT, Tables
from rmtension.analysis.published import (
    BACKBONES,
    CELL,
    PERCENT,
    SCORING,
    has_paper_sets,
    paper_models,
    published_cells,
    read,
)
from rmtension.analysis.study_holes import (
    OF_SCORES,
    OF_TASKS,
    REPAIRS,
    Hole,
    Search,
    Settings,
    abridged,
    adopted,
    backbone,
    benchmarks,
    choices,
    conflict,
    drawn,
    given,
    left_out,
    mean_values,
    merged,
    metrics_without,
    one_backbone,
    one_set,
    own_test,
    patching,
    regimes,
    repairs,
    scorings,
    seeds,
    shortened,
    subsets_left_out,
    sweep,
    unused,
)
from rmtension.study.benchmarks import ALL, PUBLISHED, PublishedBenchmark
from rmtension.study.naming import AVERAGE, OVERALL
from rmtension.study.study import Study


class Plain(yaml.SafeDumper):
    """Writes what stands in two places twice: a name for it (&id001) is of no use where one is copied alone."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def line(settings: Settings) -> str:
    """Settings as one line of YAML; "" for none."""
    if not settings:
        return ""
    flow = yaml.dump(dict(settings), None, Plain, default_flow_style=True, width=inf, sort_keys=False,
                     allow_unicode=True)  # fmt: skip
    return flow.strip()[1:-1] if len(settings) == 1 else flow.strip()


# --- what tables lack -----------------------------------------------------------------------------------------


def orientations(study: Study, tables: Tables) -> Iterator[Hole]:
    """Single-objective regimes without a task of their own orientation on a benchmark that regimes share."""
    found = set(tables["accuracy"]["orientation"])
    for regime in (regime for regime in study.single_regimes() if regime not in found):
        own = {"kind": "own", "path": f"{regime}.jsonl", "tasks": {"TASK": regime}}
        known = {"kind": "reward-bench", **PUBLISHED["reward-bench"].place}
        entry = known if regime in ("helpful", "harmless") else own
        what = f"tasks of the orientation {regime}, which regimes share" + (
            "" if found else f" ({OF_TASKS}, {OF_SCORES})"
        )
        name = unused(str(entry["kind"] if entry is known else regime), study.benchmarks)
        yield Hole(what, f"no benchmark has a task that is {regime}", {"benchmarks": {name: entry}})


def unscored(_study: Study, tables: Tables) -> Iterator[Hole]:
    counts = tables["benchmark_accuracy"].filter(pl.col("n_unscored") > 0).sort("n_unscored", descending=True)
    for benchmark, n, every in (
        counts.unique("benchmark", maintain_order=True).select("benchmark", "n_unscored", "n_comparisons").iter_rows()
    ):
        what = f"up to {n:g} of {every:g} comparisons of {benchmark} in a model and regime"
        yield Hole(what, "empty, or longer than the backbone reads: it would take another", {})


def empty_metrics(study: Study, tables: Tables) -> Iterator[Hole]:
    """Official metrics without a value though no subset was left out."""
    values = tables["official"].group_by("benchmark", "metric", maintain_order=True).agg(pl.col("value_mean").count())
    for name, metrics in values.filter(value_mean=0).group_by("benchmark", maintain_order=True):
        benchmark = study.benchmarks[str(name[0])]
        assert isinstance(benchmark, PublishedBenchmark)
        explained = metrics_without(benchmark.kind, subsets_left_out(str(name[0]), benchmark))
        of = dict.fromkeys(
            metric.partition(":")[0] for metric in metrics["metric"]
        )  # one has all of its metrics, or none
        empty = [part for part in of if part not in explained]
        if empty:
            why = "a subset is not in its file, or none of that subset could be scored"
            yield Hole(f"official metrics of {name[0]}: {abridged(empty)} (official)", why, {})


# --- claims and published figures -----------------------------------------------------------------------------


def paper_tasks(study: Study, tables: Tables, tasks: pl.DataFrame) -> Iterator[Hole]:
    """Those of some of the paper's tasks (rows of its tasks.csv) that the study's benchmarks do not have."""
    yield from benchmarks(study, tables, tasks["benchmark"].unique(maintain_order=True).to_list())
    for name, benchmark in study.benchmarks.items():
        if isinstance(benchmark, PublishedBenchmark):
            subsets = tasks.filter(benchmark=benchmark.kind)["subset"]
            absent = [subset for subset in subsets_left_out(name, benchmark) if subset in subsets]
            if absent:
                settings = {"benchmarks": {name: {"tasks": ALL}}}
                yield Hole(abridged(absent), f"benchmarks.{name}.tasks names others", settings)


def more_comparisons(study: Study, tables: Tables) -> Iterator[Hole]:
    """More tasks, and more of each."""
    yield from (hole for hole in drawn(study, tables) if "benchmarks" in hole.settings)
    yield from left_out(study, tables)
    yield from benchmarks(study, tables)


def gaining(study: Study, tables: Tables) -> Iterator[Hole]:
    """Where none does, there is nothing to balance."""
    gained = tables["repair"].filter(pl.col("gain_low") > 0, model=OVERALL, measure="accuracy")
    if study.repaired() and gained.is_empty():
        yield Hole("what repairs gain", "no repair gains with the whole interval", {})


# Claim -> what its parts can lack, besides the tasks that they name and, of figures of neurons, an interval over seeds.
CAUSES: dict[str, list[Search]] = {
    "C1": [regimes, orientations],
    "C2": [regimes, orientations],
    "C3": [regimes],
    "C4": [regimes, orientations],
    "C5": [regimes, orientations],
    "C6": [sweep, partial(scorings, among=("magnitude", "change", "random"))],
    "C7": [],
    "C8": [],
    "C9": [orientations],
    "C10": [orientations],
    "C11": [regimes],
    "C12": [regimes, orientations],
    "D1": [orientations],
    "A1": [sweep, partial(scorings, among=("magnitude", "attribution"))],
    "P1": [regimes, patching],
    "G1": [regimes, conflict],
    **{claim: [regimes, orientations, partial(repairs, wanted=wanted)] for claim, wanted in REPAIRS.items()},
    "R4": [regimes, orientations, repairs, gaining, more_comparisons],
    "L1": [regimes, orientations, more_comparisons],
    "L2": [regimes, orientations, more_comparisons],
    "L3": [],
    "K1": [regimes, orientations, more_comparisons],
    "K2": [regimes, orientations],
}


def untested(study: Study, tables: Tables, claims: pl.DataFrame) -> Iterator[Hole]:
    """Claims that have no parts in this study, or parts without an interval."""
    parts = claims.filter(pl.col("part") != "").unique(["claim", "part"], maintain_order=True)
    paper = read("tasks")
    for claim in (claim for claim in CLAIMS if not (study.given and claim in OF_TRAINING)):
        own = parts.filter(claim=claim)
        gaps = own.filter(pl.col("low").is_null())
        if len(own) and gaps.is_empty():
            continue
        named = paper.filter(pl.col("task").is_in(gaps["part"].str.split(": ").list.last().implode()))
        known = [hole for cause in CAUSES[claim] for hole in cause(study, tables)]
        known += paper_tasks(study, tables, named)
        known = known if own.is_empty() or gaps["estimate"].null_count() else []
        notes = gaps["note"].str.split("; ").explode().unique(maintain_order=True).to_list()
        known += [*seeds(study, tables), *one_set(study, tables)] if NO_INTERVAL in notes else []
        known += [*more_comparisons(study, tables)] if any(note.endswith(NO_VERDICT) for note in notes) else []
        why = "; ".join(dict.fromkeys([hole.why for hole in known] or notes)) or "no such regimes in this study"
        settings = merged(*(hole.settings for hole in known))
        yield Hole(f"claim {claim}: {len(gaps)} of {len(own)} parts" if len(own) else f"claim {claim}", why, settings)


def unmatched(study: Study, tables: Tables) -> Iterator[Hole]:
    """Figures of the paper that no figure of this study stands beside, by what is missing; of given ones none can."""
    if study.given:
        return
    names = paper_models(study)
    cells = published_cells().with_columns(own=pl.col("model").replace_strict(
        {paper: own for own, paper in names.items()}, default=None, return_dtype=pl.String))  # fmt: skip
    on = ["own" if key == "model" else key for key in CELL]
    found = tables["published"].rename({"model": "own"}).select(on)
    missing = cells.join(found, on=on, how="anti", maintain_order="left")
    no_regime = ~pl.col("regime", "single").is_in(["", *study.regimes])
    has_sets = pl.lit(has_paper_sets(study))
    tasks = tables["accuracy"]["task"].unique().to_list()
    cause = (
        pl.when(pl.col("own").is_null()).then(pl.lit("backbones"))
        .when(pl.any_horizontal(no_regime)).then(pl.lit("regimes"))
        .when((pl.col("task") == AVERAGE) | ~pl.col("task").is_in(["", *tasks])).then(pl.lit("tasks"))
        .when(~has_sets).then(pl.lit("sets")).otherwise(pl.lit("figures"))
    )  # fmt: skip
    absent = {unused(name, study.models): backbone(name) for name in BACKBONES if name not in names.values()}
    sets = {"neurons": {"scorings": [*dict.fromkeys([*study.neurons.scorings, SCORING, "mean"])]},
            "ablation": {"percent": PERCENT, "scoring": SCORING}}  # fmt: skip
    tasks_of = merged(*(hole.settings for hole in paper_tasks(study, tables, read("tasks"))))
    causes: dict[str, tuple[str, Settings]] = {
        "backbones": ("of backbones that are not in this study" if absent else f"of {OVERALL}: this study has more",
                      {"models": absent} if absent else {}),
        "regimes": ("of regimes called helpful, harmless and helpful-harmless", {}),
        "tasks": ("on tasks, or averages over tasks, that are not in this study", tasks_of),
        "sets": ("of sets of another scoring or size", sets),
        "figures": ("this study has no such figure", {}),
    }  # fmt: skip
    for (name,), rows in missing.group_by(cause.alias("cause"), maintain_order=True):
        of = ", ".join(rows["table"].unique(maintain_order=True))
        what = f"{len(rows):,} of {len(cells):,} published figures, of {of} (published)"
        yield Hole(what, *causes[str(name)])


SEARCHES: list[Search] = [
    seeds,
    one_set,
    one_backbone,
    shortened,
    regimes,
    own_test,
    benchmarks,
    left_out,
    orientations,
    drawn,
    unscored,
    empty_metrics,
    scorings,
    sweep,
    mean_values,
    patching,
    conflict,
    repairs,
    choices,
    adopted,
    given,
]


def holes_table(study: Study, tables: Tables, claims: pl.DataFrame) -> pl.DataFrame:
    """what this study did not measure, why, and the line of the study file that would measure it: YAML to be merged
    into the file, where a list takes the place of the one that is there; empty where no line can."""
    found = [hole for search in SEARCHES for hole in search(study, tables)]
    found += [*untested(study, tables, claims), *unmatched(study, tables)]
    rows = [(hole.what, hole.why, line(hole.settings)) for hole in found]
    return pl.DataFrame(rows, schema=dict.fromkeys(["what", "why", "line"], pl.String), orient="row")


# Tables that are made when the claims are.
HOLES: dict[str, Callable[[Study, Tables, pl.DataFrame], pl.DataFrame]] = {"holes": holes_table}
