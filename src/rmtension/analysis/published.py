"""The paper's figures, cell by cell, and this study's tables beside them: facts to compare with, never inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

import polars as pl

from rmtension.base.files import RESOURCES
from rmtension.base.sums import summable
from rmtension.study.benchmarks import PublishedBenchmark
from rmtension.study.models import FolderModel
from rmtension.study.naming import AVERAGE, OVERALL, ablation_name
from rmtension.study.study import Study

FOLDER = RESOURCES / "paper"
LENGTHS = RESOURCES / "length.csv"  # of some of the paper's tasks, how many comparisons the longer response wins
# The paper's backbones, by its names for them.
BACKBONES = {
    "gpt2-small": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M",
    "smollm2-360m": "HuggingFaceTB/SmolLM2-360M",
    "smollm2-1.7b": "HuggingFaceTB/SmolLM2-1.7B",
}
MIXED = "helpful-harmless"
SCORING, PERCENT = "magnitude", 10
# Of these the paper's scoring is one: the signed mean of the authors' code, or the word's mean of absolute values.
MAGNITUDES = ("magnitude", "mean", "mean_abs")
# In the order in which the authors' notebook went through them.
SETS = {"baseline": "none", "helpful_only": "helpful-only", "harmless_only": "harmless-only", "shared": "shared"}

# What a row of `published` says where the two figures are not of the same thing.
UNMIXED = "un-mixed: printed is the mean over this and the sets before it"
UNSIGNED = "published sets by signed mean, ours by mean of absolute values"
BY_MEAN = "published sets by signed mean, as is our scoring mean"
BY_CHARACTERS = "published lead over the tasks of resources/length.csv, by characters"
INTERSECTION = "published shared set with neurons of one part alone, ours the intersection"
ONE_STYLE = "published RM-Bench comparisons of one style, ours of all styles at once"
OTHER_FORM = "published benchmark texts in the form `paper`, ours in that of training"
SEVEN = "published mean over seven models, one of them not named"

PLACE = ["model", "regime", "ablation", "single", "orientation", "task"]  # "" where a table has no such key
CELL = ["table", *PLACE, "quantity"]


def read(name: str) -> pl.DataFrame:
    """A file of resources/paper, by its name without the ending."""
    return pl.read_csv(FOLDER / f"{name}.csv")


def orientations() -> pl.DataFrame:
    """task, orientation of the 25 tasks; the one in two benchmarks once, as in the paper's tables."""
    return read("tasks").select("task", "orientation").unique(maintain_order=True)


def lengths() -> pl.DataFrame:
    """The rows of resources/length.csv, with the orientations of their tasks."""
    return pl.read_csv(LENGTHS).join(orientations(), on="task", maintain_order="left")


def cells(table: str, frame: pl.DataFrame, quantity: str, **values: str) -> pl.DataFrame:
    """One quantity of a table under the key columns CELL; `values`: new name = column, null where there is none."""
    place = [pl.col(key) if key in frame.columns else pl.lit("").alias(key) for key in PLACE]
    keys = [pl.lit(table).alias("table"), *place, pl.lit(quantity).alias("quantity")]
    none = pl.lit(None, dtype=pl.Float64)
    found = {name: pl.col(column) if column in frame.columns else none for name, column in values.items()}
    return frame.select(*keys, **found).cast(dict.fromkeys(values, pl.Float64))


def printed(table: str, frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The cells of a published table; column `x_mean` holds the quantity x, `x_sd` its deviation over seeds."""
    quantities = {column: column.removesuffix("_mean") for column in columns}
    return pl.concat(cells(table, frame, q, published=c, published_sd=f"{q}_sd") for c, q in quantities.items())


def averaged(frame: pl.DataFrame, key: str, name: str) -> pl.DataFrame:
    """Cells and the plain means over one of their keys, with `name` in its place."""
    rest = [column for column in CELL if column != key]
    means = frame.group_by(rest, maintain_order=True).agg(summable(pl.col("published")).mean())
    return pl.concat([frame, means.with_columns(pl.lit(name).alias(key))], how="diagonal")


def unmixed() -> pl.DataFrame:
    """ablated_set, task, retention: Table 19 set by set (docs/methods.md, section 9, N1).

    The notebook behind it never empties its lists, so that the k-th of SETS is printed as the mean x(k) over the first
    k; what belongs to it alone is k x(k) - (k - 1) x(k - 1).
    """
    place = pl.col("ablated_set").cast(pl.Enum(list(SETS)))
    sums = pl.col("retention") * (1 + place.to_physical())
    printed = read("retention_under_ablation").sort(place, maintain_order=True)
    return printed.with_columns(retention=sums - sums.shift(1, fill_value=0).over("task"))


def published_cells() -> pl.DataFrame:
    """Every published figure under the names of this project's tables, with the averages that follow from it.

    Columns: table, model, regime, ablation, single, orientation, task, quantity, published, published_sd (over seeds;
    null where the paper gives none). Retention under ablation is `unmixed`. In neuron_overlap the pair of regimes is
    regime, single. The model OVERALL is the paper's own mean over models where it prints one, else the plain mean of
    its six; task AVERAGE is the plain mean over an orientation's tasks.
    """
    tasks, mixed = orientations(), pl.lit(MIXED).alias("regime")
    own = read("ablation_top10").with_columns(ablation=pl.lit(ablation_name(SCORING, PERCENT)))
    own = own.with_columns(pl.col("model").replace("model_average", OVERALL))
    mean = [mixed, pl.lit(OVERALL).alias("model"), pl.col("ablated_set").replace_strict(SETS).alias("ablation")]
    shared, kept = (frame.with_columns(mean) for frame in (read("shared_ablation_top10"), unmixed()))
    retention = read("retention").with_columns(mixed, ablation=pl.lit("none"))
    agreement = read("pairwise_retention_gpt2_large").with_columns(mixed, model=pl.lit("gpt2-large"))
    overlap = read("neuron_overlap").rename({"regime_a": "regime", "regime_b": "single"})

    def oriented(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.join(tasks, on="task", maintain_order="left")

    on_tasks = [
        averaged(printed("accuracy", oriented(read("accuracy")), "accuracy_mean"), "model", OVERALL),
        printed("retention", oriented(retention), "retention_mean"),
        printed("retention", oriented(kept), "retention"),
        printed("agreement", oriented(agreement).rename({"single_regime": "single"}), "overlap_mean"),
        printed("own_ablation", own, "baseline", "ablated", "delta"),
        printed("shared_ablation", shared, "baseline", "delta"),
    ]
    others = [printed("rmsd", read("chosen_rejected_rmsd"), "rmsd"), printed("neuron_overlap", overlap, "jaccard")]
    return pl.concat([averaged(pl.concat(on_tasks), "task", AVERAGE), averaged(pl.concat(others), "model", OVERALL)])


def paper_models(study: Study) -> dict[str, str]:
    """The study's models that are the paper's and whole -> its name for them: hub id or local folder ends in that name.

    OVERALL is among them where the study has the paper's six models and no other.
    """
    known = {PurePosixPath(hub).name.lower(): paper for paper, hub in BACKBONES.items()}
    pretrained = {name: model.source for name, model in study.models.items() if isinstance(model.source, FolderModel)}
    sources = {name: source for name, source in pretrained.items() if source.layers is None}
    places = {name: PurePosixPath(source.hub or source.path or "").name.lower() for name, source in sources.items()}
    named = {name: known[place] for name, place in places.items() if place in known}
    whole = len(study.models) == len(known) and set(named.values()) == set(BACKBONES)
    return named | ({OVERALL: OVERALL} if whole else {})


def is_signed(scoring: str, study: Study) -> bool:
    """Whether a scoring is by the signed mean, as the published sets are (docs/methods.md, section 9, R1)."""
    return (study.neurons.magnitude if scoring == "magnitude" else scoring) == "mean"


def paired_scoring(study: Study) -> str:
    """The study's scoring whose sets are set beside the published ones: a signed one where it has one."""
    known = [scoring for scoring in study.neurons.scorings if scoring in MAGNITUDES]
    return min(known, key=lambda scoring: not is_signed(scoring, study), default=SCORING)


def has_paper_sets(study: Study) -> bool:
    """Whether the sets of mixed reward models, and those that claims are about, are made as the paper's are."""
    return study.ablation.scoring in MAGNITUDES and study.ablation.percent == PERCENT


def comparable(table: str, frame: pl.DataFrame, study: Study) -> pl.DataFrame:
    """The rows of one of our tables that answer to the paper's, under the paper's key columns."""
    scoring = paired_scoring(study)
    if table == "own_ablation":
        main = pl.lit(ablation_name(SCORING, PERCENT))
        frame = frame.filter(scoring=scoring, percent=PERCENT, replaced_by="zero").with_columns(ablation=main)
    if table == "shared_ablation":
        frame = frame.filter(pl.lit(has_paper_sets(study)), control="whole", replaced_by="zero")
    if table == "retention":
        frame = frame.filter(pl.lit(has_paper_sets(study)) | (pl.col("ablation") == "none"))
    if table == "neuron_overlap":
        same_size = pl.lit(study.ablation.percent == PERCENT)
        pairs = frame.filter(same_size, scoring=scoring, selection="authors")
        pairs = pairs.rename({"first": "regime", "second": "single"})
        # A pair of regimes has no order, so both are offered.
        frame = pl.concat([pairs, pairs.rename({"regime": "single", "single": "regime"})], how="diagonal")
    if "ablation" in frame.columns and study.analysis.shared == "authors":
        renamed = pl.col("ablation").replace("shared-authors", "shared")
        frame = frame.filter(pl.col("ablation") != "shared").with_columns(renamed)
    return with_like_averages(frame) if "task" in frame.columns else frame


def with_like_averages(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the averages of orientations in which our tasks are not all the paper's and no others."""
    here = frame.select("task", "orientation").filter(pl.col("task") != AVERAGE).unique()
    paper = orientations()
    unlike = pl.concat([a.join(b, on=["task", "orientation"], how="anti") for a, b in ((here, paper), (paper, here))])
    return frame.filter((pl.col("task") != AVERAGE) | ~pl.col("orientation").is_in(unlike["orientation"].to_list()))


def ours(table: str, frame: pl.DataFrame, quantity: str) -> pl.DataFrame:
    """A quantity of one of our tables as cells, with its interval: ours, low, high."""
    if quantity in frame.columns:  # not a mean over seeds, so the table's interval is not about it
        return cells(table, frame, quantity, ours=quantity, low="", high="")
    mean, low, high = (f"{quantity}_{column}" for column in ("mean", "low", "high"))
    return cells(table, frame, quantity, ours=mean, low=low, high=high)


def of_tasks(study: Study) -> list[pl.Expr]:
    """What keeps a figure of tasks, or of an average over them (columns task and orientation), from being of the same
    comparisons as the paper's; null where nothing is known to."""
    styled, published = read("tasks").filter(benchmark="rm-bench"), list[PublishedBenchmark]()
    published += [b for b in study.benchmarks.values() if isinstance(b, PublishedBenchmark)]
    within = pl.col("orientation").is_in(styled["orientation"].unique().implode())
    is_styled = pl.col("task").is_in(styled["task"].implode()) | (pl.col("task") == AVERAGE) & within
    is_strict = study.analysis.rm_bench == "strict"
    is_other = any(benchmark.template != "paper" for benchmark in published)
    return [
        pl.when(is_styled & is_strict).then(pl.lit(ONE_STYLE)),
        pl.when((pl.col("task") != "") & is_other).then(pl.lit(OTHER_FORM)),
    ]


def note(study: Study) -> pl.Expr:
    """What keeps the two figures of a row of `published` from being of one thing; "" where nothing is known to."""

    def about_sets(scoring: str) -> pl.Expr:
        signed = BY_MEAN if scoring == "mean" else None
        return pl.lit(signed if is_signed(scoring, study) else UNSIGNED, pl.String)

    table, is_ablated = pl.col("table"), pl.col("quantity") != "baseline"
    of_own = table.is_in(["own_ablation", "neuron_overlap"]) & is_ablated
    is_retention = (table == "retention") & (pl.col("ablation") != "none")
    of_mixed = is_retention | (table == "shared_ablation") & is_ablated
    is_other = of_mixed & (pl.col("ablation") == "shared") & (study.analysis.shared != "authors")
    of_seven = table.is_in(["retention", "shared_ablation"]) & (pl.col("model") == OVERALL)
    notes = [
        *of_tasks(study),
        pl.when(of_seven).then(pl.lit(SEVEN)),
        pl.when(is_retention).then(pl.lit(UNMIXED)),
        pl.when(of_own).then(about_sets(paired_scoring(study))).when(of_mixed).then(about_sets(study.ablation.scoring)),
        pl.when(is_other).then(pl.lit(INTERSECTION)),
    ]
    return pl.concat_str(notes, separator="; ", ignore_nulls=True)


def twin(tables: Mapping[str, pl.DataFrame], study: Study) -> pl.DataFrame:
    """The table `published`: each of the paper's figures that this study has too, and ours beside it.

    Columns: those of published_cells but published_sd; ours, low, high (our interval); difference (ours - published);
    inside: the published figure lies within our interval, null without one; note: what keeps the two from being of one
    thing. Sets are those of a signed scoring where the study has one (`paired_scoring`). Models are matched by their
    source (`paper_models`), regimes and tasks by name; an average is there only if it is over the same tasks. The set
    called shared is the authors' where the study's `analysis.shared` says so. Where nothing matches, the table is
    empty.
    """
    paper = published_cells()
    names = pl.DataFrame(
        list(paper_models(study).items()), dict.fromkeys(["own_name", "model"], pl.String), orient="row"
    )
    known = paper.select("table", "quantity").unique(maintain_order=True).rows()
    like = {table: comparable(table, tables[table], study) for table, _ in known if table in tables}
    nothing = cells("", pl.DataFrame(schema=dict.fromkeys(PLACE, pl.String)), "", ours="", low="", high="")
    found = pl.concat([nothing, *(ours(table, like[table], quantity) for table, quantity in known if table in like)])
    named = paper.join(names, on="model", maintain_order="left").with_columns(model="own_name")
    both = named.join(found, on=CELL, maintain_order="left").filter(pl.col("ours").is_not_null())
    return both.select(
        *CELL,
        *("published", "ours", "low", "high"),
        difference=pl.col("ours") - pl.col("published"),
        inside=pl.col("published").is_between("low", "high"),
        note=note(study),
    )
