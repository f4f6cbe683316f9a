"""What a study did not measure, why, and the line of its study file that would measure it: holes are results, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple, get_args

import polars as pl
import yaml

from rmtension.analysis.claims import CLAIMS
from rmtension.analysis.evidence import Tables
from rmtension.analysis.official import EARNED, sections
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
from rmtension.data.tasks import known_tasks, wanted_tasks
from rmtension.study.benchmarks import ALL, PUBLISHED, UNORIENTED, OwnBenchmark, PublishedBenchmark
from rmtension.study.naming import AVERAGE, OVERALL
from rmtension.study.section import Section
from rmtension.study.stages import Scoring
from rmtension.study.study import Study

Settings = Mapping[str, Any]
Search = Callable[[Study, Tables], Iterator["Hole"]]

# Published benchmarks -> where they are.
PLACES: dict[str, dict[str, str]] = {
    "reward-bench": {"hub": "allenai/reward-bench"},
    "reward-bench-2": {"hub": "allenai/reward-bench-2"},
    "rm-bench": {"hub": "THU-KEG/RM-Bench"},
    "rmb-pairwise": {"path": "RMB-Reward-Model-Benchmark"},
    "rmb-best-of-n": {"path": "RMB-Reward-Model-Benchmark"},
}
OF_TWO = "contrasts, neuron_overlap"  # tables that need two regimes, a mixed one, a task, a sweep, ...
OF_MIXED = "retention, agreement, score_shift, shared_ablation, shared_contrasts, neuron_retention"
OF_TASKS = "accuracy, contrasts, retention, agreement, own_ablation, shared_ablation, shared_contrasts"
OF_SCORES = "score_shift, score_histogram, compression"
OF_SWEEP = "ablation_curve, scoring_contrasts, set_size"
OF_SEEDS = "depth, rmsd, neuron_overlap, neuron_retention, control_overlap, official"  # their intervals
# Scoring -> what goes unseen without it.
UNSEEN: dict[str, str] = {
    "magnitude": "neurons that matter by magnitude, the paper's scoring",
    "mean": "neurons by signed mean activation, as in the authors' code (R1)",
    "mean_abs": "neurons by mean absolute activation, the paper's words (R1)",
    "change": "neurons by what training changed; the control of C11",
    "probability": "neurons by the share of tokens on which they are active",
    "random": "random neurons: the control of C6, C7, C9 and C10 (scoring_contrasts)",
    "matched-random": "random neurons as deep and as loud: the control of C6 and C9 (control_overlap)",
    "head-norm": "attention heads that matter",
    "head-random": "random attention heads, the control of head-norm",
}


class Hole(NamedTuple):
    """What was not measured, why, and the settings that would, to be merged into the study's; empty where none can."""

    what: str
    why: str
    settings: Settings


def merged(*parts: Settings) -> dict[str, Any]:
    """All of them: of mappings each key, of lists each item, of other values the last."""
    both: dict[str, Any] = {}
    for part in parts:
        for key, other in part.items():
            one = both.get(key)
            if isinstance(one, Mapping) and isinstance(other, Mapping):
                both[key] = merged(one, other)
            elif isinstance(one, list) and isinstance(other, list):
                both[key] = list(dict.fromkeys([*one, *other]))
            else:
                both[key] = other
    return both


def line(settings: Settings) -> str:
    """Settings as one line of YAML; "" for none."""
    if not settings:
        return ""
    flow = yaml.safe_dump(dict(settings), default_flow_style=True, width=inf, sort_keys=False, allow_unicode=True)
    return flow.strip()[1:-1] if len(settings) == 1 else flow.strip()


def listing(words: list[str]) -> str:
    return ", ".join(words if len(words) <= 8 else [*words[:6], f"and {len(words) - 6} more"])


def backbone(name: str) -> Settings:
    """The entry of one of the paper's backbones in `models`."""
    return {"source": {"kind": "pretrained", "hub": BACKBONES[name]}}


def unused(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else unused(f"{name}-more", taken)


# --- what a study file leaves out -----------------------------------------------------------------------------


def seeds(study: Study, _tables: Tables) -> Iterator[Hole]:
    if len(study.seeds) == 1:
        more = [seed for seed in range(4) if seed not in study.seeds][:2]
        what = f"differences between trainings (stability; intervals of {OF_SEEDS})"
        yield Hole(what, "one seed", {"seeds": [*study.seeds, *more]})


def one_set(study: Study, _tables: Tables) -> Iterator[Hole]:
    if study.analysis.selection == "authors":
        what = "intervals of the claims' figures of oriented neurons (depth, neuron_overlap, neuron_retention)"
        yield Hole(what, "analysis.selection: one set for all seeds", {"analysis": {"selection": "exact"}})


def one_backbone(study: Study, _tables: Tables) -> Iterator[Hole]:
    if len(study.models) == 1:
        entry = {unused("gpt2", study.models): backbone("gpt2-small")}
        yield Hole(f"whether other backbones agree (rows of {OVERALL})", "one model", {"models": entry})


def regimes(study: Study, _tables: Tables) -> Iterator[Hole]:
    singles = study.single_regimes()
    if any(regime.mixes for regime in study.regimes.values()):
        return
    added: dict[str, Any] = {}
    if len(singles) == 1:
        name = "helpful" if singles == ["harmless"] else "harmless"
        source = unused(f"{name}-base", study.sources)
        pairs = {source: {"kind": "hh-rlhf", "hub": "Anthropic/hh-rlhf", "folder": f"{name}-base"}}
        added = {"sources": pairs, "regimes": {name: {"train": [source], "test": [source]}}}
        singles = [*singles, name]
        what, why = f"what regimes differ in, and what mixing them keeps ({OF_TWO}, {OF_MIXED})", "one regime"
    else:
        what, why = f"what mixing two regimes keeps ({OF_MIXED})", "no regime mixes two others"
    mixed = {unused("-".join(singles[:2])[:80], study.regimes): {"mixes": singles[:2]}}
    yield Hole(what, why, merged(added, {"regimes": mixed}))


def benchmarks(study: Study, _tables: Tables, kinds: Sequence[str] = PUBLISHED) -> Iterator[Hole]:
    """Published ones that the study has not."""
    present = {benchmark.kind for benchmark in study.benchmarks.values()}
    for kind in (kind for kind in kinds if kind not in present):
        tasks = known_tasks(kind).filter(pl.col("orientation") != UNORIENTED)["task"].unique(maintain_order=True)
        what = f"{len(tasks)} tasks of {kind}: {listing(tasks.to_list())}"
        what += "; its official metrics (official)" if kind in EARNED else ""
        entry = {unused(kind, study.benchmarks): {"kind": kind, **PLACES[kind]}}
        yield Hole(what, f"no benchmark of kind {kind}", {"benchmarks": entry})


def own_test(study: Study, _tables: Tables) -> Iterator[Hole]:
    if all(benchmark.kind != "regime-test" for benchmark in study.benchmarks.values()):
        entry = {unused("own-test", study.benchmarks): {"kind": "regime-test"}}
        what = "accuracy on each regime's own test split (benchmark_accuracy)"
        yield Hole(what, "no benchmark of kind regime-test", {"benchmarks": entry})


def subsets_left_out(name: str, benchmark: PublishedBenchmark) -> list[str]:
    wanted = wanted_tasks(name, benchmark)["subset"].to_list()
    return [subset for subset in known_tasks(benchmark.kind)["subset"] if subset not in wanted]


def metrics_without(kind: str, subsets: list[str]) -> list[str]:
    """Sections whose official metrics, all beginning with that name, take one of the subsets; with them the overall."""
    parts = sections(kind).filter(pl.col("subset").is_in(subsets))["section"].unique(maintain_order=True).to_list()
    return [*parts, "overall"] if parts else []


def left_out(study: Study, _tables: Tables) -> Iterator[Hole]:
    """Subsets of published benchmarks that the study has, and the official metrics that are empty for it."""
    for name, benchmark in study.benchmarks.items():
        if isinstance(benchmark, PublishedBenchmark) and (subsets := subsets_left_out(name, benchmark)):
            metrics = metrics_without(benchmark.kind, subsets)
            what = f"subsets of {name}: {listing(subsets)}"
            what += f"; so its official metrics {listing(metrics)} are empty (official)" if metrics else ""
            why = "`tasks` names others" if benchmark.tasks else "tasks without an orientation are taken only if named"
            yield Hole(what, why, {"benchmarks": {name: {"tasks": ALL}}})


def drawn(study: Study, _tables: Tables) -> Iterator[Hole]:
    parts: dict[tuple[str, str], Section] = {("sources", name): source for name, source in study.sources.items()}
    parts |= {("benchmarks", name): benchmark for name, benchmark in study.benchmarks.items()}
    parts |= {("activations", ""): study.activations}
    things = {"max_per_task": "comparisons of a task", "max_train": "train pairs", "max_test": "test pairs",
              "max_pairs": "pairs behind activation statistics"}  # fmt: skip
    for (section, name), part in parts.items():
        limits = part.model_dump(include=set(things), exclude_none=True)
        for key, limit in limits.items():
            place, lifted = f"{section}.{name}.{key}" if name else f"{section}.{key}", {key: None}
            settings = {section: {name: lifted} if name else lifted}
            what = f"{things[key]} beyond {limit:,}" + (f", in {name}" if name else "")
            yield Hole(what, f"{place}: so many are drawn", settings)


def scorings(study: Study, _tables: Tables, among: Sequence[str] = get_args(Scoring)) -> Iterator[Hole]:
    present, twins = [*study.neurons.scorings], {"magnitude", study.neurons.magnitude}  # two names of one scoring
    known = {*present, *twins} if twins & {*present} else {*present}
    for scoring in (scoring for scoring in among if scoring not in known):
        settings = {"neurons": {"scorings": [*present, scoring]}}
        yield Hole(UNSEEN[scoring], f"neurons.scorings has no {scoring}", settings)


def sweep(study: Study, _tables: Tables) -> Iterator[Hole]:
    settings: dict[str, list[Any]] = {}
    reasons = []
    if not study.ablation.sweep_benchmarks:
        own = [name for name, benchmark in study.benchmarks.items() if benchmark.kind == "regime-test"]
        settings = {"sweep_benchmarks": [*own, *study.benchmarks][:1]}
        reasons = ["no benchmark to sweep on"]
    if not [percent for percent in study.ablation.sweep if percent < 100]:
        sizes = [percent for percent in (2, 5, 10, 20, 30) if percent not in study.ablation.sweep]
        settings |= {"sweep": [*sizes, *study.ablation.sweep]}
        reasons += ["no sizes below 100 % to sweep over"]
    if reasons:
        what = f"how effects grow with the size of a set ({OF_SWEEP})"
        yield Hole(what, ", ".join(reasons), {"ablation": settings})


def choices(study: Study, _tables: Tables) -> Iterator[Hole]:
    """What one run has under one of two ways (docs/methods.md, section 9)."""
    other = {"validation": "test", "test": "validation"}[study.training.select_on]
    what = f"accuracy with weights chosen on the {other} split (R6 in compatibility)"
    yield Hole(what, "one run has one of the two: a study of its own", {"training": {"select_on": other}})
    chosen = {name: b for name, b in study.benchmarks.items() if isinstance(b, PublishedBenchmark | OwnBenchmark)}
    forms = {(benchmark.kind, benchmark.template) for benchmark in chosen.values()}
    for name, benchmark in chosen.items():
        form = {"hh": "paper", "paper": "hh"}[benchmark.template]
        if (benchmark.kind, form) not in forms:
            entry = benchmark.model_dump(mode="json", exclude_defaults=True) | {"template": form}
            settings = {"benchmarks": {unused(f"{name}-{form}", study.benchmarks): entry}}
            what = f"accuracy on {name} with texts in the form {form} (R7 in compatibility)"
            yield Hole(what, f"no benchmark of kind {benchmark.kind} has that template", settings)


def adopted(study: Study, _tables: Tables) -> Iterator[Hole]:
    for name, model in study.models.items():
        if model.trained:
            n = sum(len(folders) for folders in model.trained.values())
            what = f"how {n} reward models of {name} were trained (training_card, compute_card)"
            yield Hole(what, "trained elsewhere", {"models": {name: {"trained": {}}}})


# --- what tables lack -----------------------------------------------------------------------------------------


def orientations(study: Study, tables: Tables) -> Iterator[Hole]:
    """Single-objective regimes without a task of their own orientation on a benchmark that regimes share."""
    found = set(tables["accuracy"]["orientation"])
    for regime in (regime for regime in study.single_regimes() if regime not in found):
        own = {"kind": "own", "path": f"{regime}.jsonl", "tasks": {"TASK": regime}}
        known = {"kind": "reward-bench", **PLACES["reward-bench"]}
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
        empty = [m for m in metrics["metric"] if m.partition(":")[0] not in explained]
        if empty:
            why = "a subset is not in its file, or none of that subset could be scored"
            yield Hole(f"official metrics of {name[0]}: {listing(empty)} (official)", why, {})


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
                yield Hole(listing(absent), f"benchmarks.{name}.tasks names others", settings)


def compared_scorings(study: Study, tables: Tables) -> Iterator[Hole]:
    yield from scorings(study, tables, ("magnitude", "change", "random"))


# Claim -> what its parts can lack, besides the tasks that they name and, of figures of neurons, an interval over seeds.
CAUSES: dict[str, list[Search]] = {
    "C1": [regimes, orientations],
    "C2": [regimes, orientations],
    "C3": [regimes],
    "C4": [regimes, orientations],
    "C5": [regimes, orientations],
    "C6": [sweep, compared_scorings],
    "C7": [],
    "C8": [],
    "C9": [orientations],
    "C10": [orientations],
    "C11": [regimes],
    "C12": [regimes, orientations],
}


def untested(study: Study, tables: Tables, claims: pl.DataFrame) -> Iterator[Hole]:
    """Claims that have no parts in this study, or parts without an interval."""
    parts = claims.filter(pl.col("part") != "").unique(["claim", "part"], maintain_order=True)
    paper = read("tasks")
    for claim in CLAIMS:
        own = parts.filter(claim=claim)
        gaps = own.filter(pl.col("low").is_null())
        if len(own) and gaps.is_empty():
            continue
        named = paper.filter(pl.col("task").is_in(gaps["part"].str.split(": ").list.last().implode()))
        known = [hole for cause in CAUSES[claim] for hole in cause(study, tables)]
        known += paper_tasks(study, tables, named)
        known = known if own.is_empty() or gaps["estimate"].null_count() else []
        known += [*seeds(study, tables), *one_set(study, tables)] if gaps["estimate"].count() else []
        notes = gaps["note"].unique(maintain_order=True).to_list()
        why = "; ".join(dict.fromkeys([hole.why for hole in known] or notes)) or "no such regimes in this study"
        settings = merged(*(hole.settings for hole in known))
        yield Hole(f"claim {claim}: {len(gaps)} of {len(own)} parts" if len(own) else f"claim {claim}", why, settings)


def unmatched(study: Study, tables: Tables) -> Iterator[Hole]:
    """Figures of the paper that no figure of this study stands beside, by what is missing."""
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
    choices,
    adopted,
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
