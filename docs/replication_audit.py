"""Write docs/replication-audit.md: what the paper's published figures say about one another.

python docs/replication_audit.py [FILE_OF_REWARDBENCH FILE_OF_RM_BENCH]

With the two files, resources/length.csv is derived anew: what share of a task's comparisons the longer response wins.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Literal

import polars as pl

from rmtension.analysis.published import LENGTHS, MIXED, SETS, lengths, orientations, published_cells, read, unmixed
from rmtension.data.rows import load_rows
from rmtension.study.naming import AVERAGE, OVERALL

PAGE = Path(__file__).with_name("replication-audit.md")
CELLS = published_cells()
SINGLES = ["helpful", "harmless"]
SEEDS = 3
STYLES = 3  # RM-Bench, response i against response i: comparisons of a prompt
SIX_DECIMALS, TWO_DECIMALS = 2e-6, 0.005 + 2e-6  # what rounding can do to a printed figure
RATIO = 0.005  # a mean of ratios over three seeds is not quite the ratio of the means
MEASURES: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {  # of a response
    "characters": lambda text: text.str.len_chars(),
    "words": lambda text: text.str.count_matches(r"\S+"),
}
COUNTED = 160  # comparisons: of larger tasks, two decimals do not tell one count over 30 reward models from the next

Line = Sequence[str]


# --- the page's forms -----------------------------------------------------------------------------------------


def number(value: float, decimals: int = 2) -> str:
    return f"{value:z,.{decimals}f}"


def grid(rows: Iterable[Line], *header: str) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def checked(rows: Iterable[Line]) -> str:
    return grid(rows, "quantity", "stated", "recomputed", "agrees", "remark")


def verdict(holds: bool) -> str:
    return "yes" if holds else "**no**"


def line(quantity: str, stated: str, value: float, remark: str = "") -> Line:
    """A stated figure beside the recomputed one; they agree if the latter, rounded as the former is, is the same."""
    [figure] = re.findall(r"-?[\d,]*\.?\d+", stated)
    decimals = len(figure.partition(".")[2])
    same = number(value, decimals) == figure
    return quantity, stated, number(value, 0 if float(value).is_integer() else decimals + 2), verdict(same), remark


def equal(quantity: str, differences: pl.Series, slack: float = SIX_DECIMALS, remark: str = "") -> Line:
    """Figures that should be equal, by their largest difference."""
    largest = max(differences.abs())
    shown = "only rounding" if largest <= slack else f"up to {number(largest, 3)}"
    return quantity, "equal", f"{shown}, {len(differences)} rows", verdict(largest <= slack), remark


def share(holds: pl.Series) -> str:
    return f"{holds.sum()} of {len(holds)}"


# --- lengths --------------------------------------------------------------------------------------------------


def shares(*files: Path) -> pl.DataFrame:
    """resources/length.csv, of the files of RewardBench and RM-Bench: task, n (comparisons), and of them the fractions
    that the response with more (longer) or fewer (shorter) characters, or words, wins; a tie is won by neither.

    Comparisons are those of the published accuracies: in RM-Bench the i-th chosen against the i-th rejected response.
    Tasks are those that lie in these two alone.
    """
    parts = []
    for (benchmark, subset), file in zip({"reward-bench": "subset", "rm-bench": "domain"}.items(), files, strict=True):
        rows = pl.DataFrame(load_rows(file)).select("chosen", "rejected", subset=subset)
        rows = rows.explode("chosen", "rejected") if benchmark == "rm-bench" else rows
        parts.append(rows.with_columns(benchmark=pl.lit(benchmark)))
    tasks = read("tasks").filter(pl.len().over("task") == 1)
    pairs = tasks.join(pl.concat(parts), on=["benchmark", "subset"], how="inner", maintain_order="left")
    won = {}
    for measure, length in MEASURES.items():
        ahead = length(pl.col("chosen")).cast(pl.Int64) - length(pl.col("rejected"))
        won |= {f"longer_{measure}": (ahead > 0).mean(), f"shorter_{measure}": (ahead < 0).mean()}
    found = pairs.group_by("task", maintain_order=True).agg(n=pl.len(), **won)
    return found.with_columns(pl.col(pl.Float64).round(6))


def leads() -> pl.DataFrame:
    """task, orientation; accuracy (mean over models) of each regime and, as lead, the helpful one's minus the harmless
    one's; columns of resources/length.csv."""
    accuracy = read("accuracy").pivot("regime", index="task", values="accuracy_mean", aggregate_function="mean")
    lead = accuracy.with_columns(lead=pl.col("helpful") - pl.col("harmless"))
    return lengths().join(lead, on="task", maintain_order="left")


# --- figures that several sections need -----------------------------------------------------------------------


def average(table: str, quantity: str, orientation: str, **cell: str) -> float:
    """The published mean of a figure over an orientation's tasks and all models, of the mixed RM unless said."""
    keys = {"table": table, "quantity": quantity, "orientation": orientation, "task": AVERAGE}
    keys |= {"model": OVERALL, "regime": MIXED} | cell
    return float(CELLS.filter(**keys)["published"].item())


def by_regime() -> pl.DataFrame:
    """model, task, orientation; accuracies of the regime of that orientation, the other single one, the mixed one."""
    wide = read("accuracy").pivot("regime", index=["model", "task"], values="accuracy_mean")
    helpful = pl.when(pl.col("orientation") == "helpful")
    own, other = (helpful.then(pl.col(a)).otherwise(pl.col(b)) for a, b in (SINGLES, SINGLES[::-1]))
    oriented = wide.join(orientations(), on="task", maintain_order="left")
    return oriented.select("model", "task", "orientation", own=own, other=other, mixed=MIXED)


def comparisons() -> pl.DataFrame:
    """task, benchmark, n (comparisons of a seed), chance (percent) of the 24 tasks that one benchmark has."""
    styles = pl.when(pl.col("benchmark") == "rm-bench").then(STYLES).otherwise(1)
    chance = 100 / pl.col("candidates_per_comparison")
    tasks = read("tasks").filter(pl.len().over("task") == 1)
    return tasks.select("task", "benchmark", n=pl.col("n_prompts") * styles, chance=chance)


def is_count(percent: str, reward_models: int, slack: float) -> pl.Expr:
    """Whether a percentage can be a whole number of correct comparisons over so many reward models."""
    total = reward_models * pl.col("n")
    nearest = (pl.col(percent) * total / 100).round() * 100 / total
    return (pl.col(percent) - nearest).abs() <= slack


def seventh() -> pl.DataFrame:
    """What a seventh model would need to lead from the mean over six models to the mean as printed, per task.

    Columns: task; for the accuracy of the unablated mixed RM six (mean), shown (beside the ablated ones), seventh; for
    its retention six_kept (mean), kept (as printed), seventh_kept.
    """
    models = read("accuracy").filter(regime=MIXED).join(read("retention"), on=["model", "task"])
    six = models.group_by("task").agg(six=pl.col("accuracy_mean").mean(), six_kept=pl.col("retention_mean").mean())
    shown = read("shared_ablation_top10").filter(ablated_set="shared").select("task", shown="baseline")
    kept = read("retention_under_ablation").filter(ablated_set="baseline").select("task", kept="retention")
    needed = {
        "seventh": 7 * pl.col("shown") - 6 * pl.col("six"),
        "seventh_kept": 7 * pl.col("kept") - 6 * pl.col("six_kept"),
    }
    return shown.join(kept, on="task").join(six, on="task").sort("task").with_columns(**needed)


# --- sections -------------------------------------------------------------------------------------------------


def counts() -> str:
    accuracy, tasks = read("accuracy"), orientations()
    helpful, harmless = (tasks.filter(orientation=o).height for o in SINGLES)
    reward_models = accuracy.select("model", "regime").n_unique() * SEEDS
    whole = accuracy.join(comparisons(), on="task").filter(is_count("accuracy_mean", SEEDS, SIX_DECIMALS))
    confirms = "confirms numbers of prompts, three seeds, and three same-style comparisons of a prompt in RM-Bench"
    return checked(
        [
            line("tasks", "25", tasks.height),
            line("helpful ones", "17", helpful),
            line("harmless ones", "8", harmless),
            line("models", "6", accuracy["model"].n_unique()),
            line("reward models", "54", reward_models),
            line("accuracies: model, regime, task", "450", accuracy.height),
            line("of these without Math: whole numbers of comparisons", "432", whole.height, confirms),
        ]
    )


def averages() -> str:
    rows = []
    for orientation, stated in (("helpful", "0.5656"), ("harmless", "0.6287")):
        kept = average("retention", "retention", orientation, ablation="none")
        rows.append(line(f"retention, {orientation} tasks (Table 1)", stated, kept))
    own = {"helpful": ("-7.3", "5.5"), "harmless": ("1.1", "-12.9")}  # on helpful, on harmless tasks
    for regime, figures in own.items():
        for orientation, stated in zip(SINGLES, figures, strict=True):
            delta = average("own_ablation", "delta", orientation, regime=regime)
            rows.append(line(f"{regime} RM without its neurons, {orientation} tasks (Tables 2, 3)", stated, delta))
    sets = {"shared": ("-4.4", "-10.0"), "helpful-only": ("about -1",) * 2, "harmless-only": ("about -1",) * 2}
    for name, figures in sets.items():
        for orientation, stated in zip(SINGLES, figures, strict=True):
            delta = average("shared_ablation", "delta", orientation, ablation=name)
            remark = "no effect, rather than about one point" if delta > -0.5 else ""
            rows.append(line(f"mixed RM without {name} neurons, {orientation} tasks (Table 4)", stated, delta, remark))
    for orientation, six, other in (("helpful", "50.35", "50.47"), ("harmless", "60.62", "61.04")):
        baselines = (
            average("own_ablation", "baseline", orientation),
            average("shared_ablation", "baseline", orientation, ablation="shared"),
        )
        rows.append(line(f"mixed RM unablated, {orientation} tasks (Tables 2, 3)", six, baselines[0]))
        remark = 'not the same as the line above: see "Means over seven models"'
        rows.append(line(f"mixed RM unablated, {orientation} tasks (Tables 17, 18)", other, baselines[1], remark))
    return checked(rows)


def agreements() -> str:
    own, beside, values = read("ablation_top10"), seventh(), ["baseline", "ablated", "delta"]
    six = own.filter(pl.col("model") != "model_average").group_by("regime", "task").agg(pl.col(values).mean())
    means = own.filter(model="model_average").join(six, on=["regime", "task"], suffix="_six")
    unablated = own.join(read("accuracy"), on=["model", "regime", "task"])
    change, off = own["ablated"] - own["baseline"], beside["shown"] - beside["six"]
    most = f"by most on {beside.sort(off.abs())['task'][-1]}: see the next section"
    same = unablated["baseline"] - unablated["accuracy_mean"]
    kept = beside["kept"] - beside["six_kept"]
    return checked(
        [
            equal("own ablation: `delta`, and ablated minus baseline", own["delta"] - change),
            *(
                equal(f"own ablation: `model_average` of {v}, and mean of six", means[v] - means[f"{v}_six"])
                for v in values
            ),
            equal("unablated accuracy: Tables 13, 14, and Tables 2, 3, 20, 21", same),
            equal("unablated accuracy of the mixed RM: Tables 17, 18, and mean of six", off, TWO_DECIMALS, most),
            equal("unablated retention: Table 1, and mean of six of Table 15", kept, remark="likewise"),
        ]
    )


def possible(models: int) -> pl.Series:
    """Whether each figure of the shared-ablation tables can be a mean over so many models of three seeds."""
    small = comparisons().filter(pl.col("n") <= COUNTED, pl.col("benchmark") != "rm-bench")
    shared = read("shared_ablation_top10").join(small, on="task")
    once = shared.filter(ablated_set="shared").select("n", figure="baseline")
    figures = pl.concat([once, shared.select("n", figure="delta")])
    return figures.select(is_count("figure", SEEDS * models, TWO_DECIMALS)).to_series()


def how_many_models() -> str:
    rows = [(str(models), str(SEEDS * models), share(possible(models))) for models in range(1, 11)]
    return grid(rows, "models", "reward models", "figures that can be such a mean")


def seventh_model() -> str:
    decimals = {"six": 2, "shown": 2, "seventh": 1, "six_kept": 3, "kept": 3, "seventh_kept": 2}
    rows = seventh().select("task", *decimals).rows()
    header = ("accuracy: mean of six", "printed", "seventh", "retention: mean of six", "printed", "seventh")
    return grid(((task, *map(number, values, decimals.values())) for task, *values in rows), "task", *header)


def implied_gap() -> str:
    """How far the two figures of the seventh model differ where they must be alike: U is nearly everything."""
    harmless = by_regime().filter(orientation="harmless").group_by("task").agg(pl.col("own").mean())
    known = seventh().join(harmless.filter(pl.col("own") > 95), on="task")
    return number(max((known["seventh_kept"] - known["seventh"] / 100).abs()), 3)


def bounds() -> str:
    """Retention against what the three accuracies allow."""
    best = pl.max_horizontal("own", "other")
    low, high = ((pl.col("mixed") + best - 100) / best).clip(0) - RATIO, pl.col("mixed") / best + RATIO
    kept = by_regime().join(read("retention"), on=["model", "task"])
    return share(kept.select(pl.col("retention_mean").is_between(low, high)).to_series())


def under_ablation() -> pl.DataFrame:
    """task, orientation, ablated_set, printed, alone (un-mixed); accuracy of the mixed RM without that set, and own and
    best, accuracy of the single-objective RM of the task's orientation and of the better one (means over six)."""
    accuracy = pl.col("baseline") + pl.col("delta")
    ablated = read("shared_ablation_top10").select("ablated_set", "task", "orientation", accuracy=accuracy)
    single = by_regime().group_by("task").agg(pl.col("own", "other").mean())
    single = single.select("task", "own", best=pl.max_horizontal("own", "other"))
    printed = read("retention_under_ablation").rename({"retention": "printed"})
    kept = printed.join(unmixed().rename({"retention": "alone"}), on=["ablated_set", "task"])
    return ablated.join(kept, on=["ablated_set", "task"]).join(single, on="task").sort("orientation", "task")


def breaks(figure: str, least: str) -> pl.Expr:
    """Whether a retention is none that the accuracies allow, with |U| at least the accuracy `least`."""
    low, high = (pl.col("accuracy") + pl.col(least) - 100) / pl.col(least), pl.col("accuracy") / pl.col(least)
    return ~pl.col(figure).is_between(low.clip(0) - RATIO, high + RATIO)


def running_means() -> str:
    """How many of the figures cannot be, as printed and un-mixed."""
    kept = under_ablation()
    names = {"own": "the single-objective RM of the task's orientation", "best": "the better single-objective RM"}
    rows = ((words, *(share(kept.select(breaks(figure, least)).to_series()) for figure in ("printed", "alone")))
            for least, words in names.items())  # fmt: skip
    return grid(rows, "the union is at least what is right by", "impossible as printed", "impossible un-mixed")


def unmixed_gap() -> str:
    """How far retention is from the ablated accuracy on the tasks on which the union is nearly everything."""
    near = under_ablation().filter(pl.col("own") > 95)
    gaps = (number(max((near[figure] - near["accuracy"] / 100).abs()), 3) for figure in ("printed", "alone"))
    return "{} as printed, {} un-mixed".format(*gaps)


def table_19() -> str:
    """Printed and un-mixed side by side; bold what the accuracies do not allow."""
    kept, sets = under_ablation(), [*SETS][1:]
    shown = kept.with_columns(impossible=breaks("printed", "own"))
    means = kept.group_by("orientation", "ablated_set").agg(pl.col("printed", "alone").mean())
    means = means.with_columns(task=pl.lit(AVERAGE), impossible=False)
    rows = []
    for (orientation, task), cells in pl.concat([shown, means], how="diagonal").group_by(
        "orientation", "task", maintain_order=True
    ):
        found = {row["ablated_set"]: row for row in cells.iter_rows(named=True)}
        mark = {name: "**" if found[name]["impossible"] else "" for name in sets}
        printed = (f"{mark[name]}{number(found[name]['printed'], 3)}{mark[name]}" for name in sets)
        alone = (number(found[name]["alone"], 3) for name in sets)
        figures = chain.from_iterable(zip(printed, alone, strict=True))
        rows.append((str(orientation), str(task), *figures))
    heads = [head for name in sets for head in (f"{SETS[name]}: printed", "un-mixed")]
    return grid(sorted(rows, key=lambda row: (row[0], row[1] == AVERAGE)), "orientation", "task", *heads)


def whose_overlaps() -> str:
    """For each model, whether the pairwise overlaps can be its own, given its accuracies."""
    single = read("accuracy").select("model", "task", single_regime="regime", s="accuracy_mean")
    mixed = read("accuracy").filter(regime=MIXED).select("model", "task", m="accuracy_mean")
    overlaps = read("pairwise_retention_gpt2_large").join(single, on=["single_regime", "task"])
    high = pl.min_horizontal("m", "s") / pl.max_horizontal("m", "s")
    low = ((pl.col("m") + pl.col("s") - 100) / 100).clip(0)
    both = overlaps.join(mixed, on=["model", "task"]).with_columns(low=low, high=high).sort("model")
    mean = both.group_by("single_regime", "task").agg(pl.col("low", "high", "overlap_mean").mean())
    shown = pl.concat([both, mean.with_columns(model=pl.lit("mean over the six"))], how="diagonal")
    excess = pl.max_horizontal(pl.col("overlap_mean") - pl.col("high"), pl.col("low") - pl.col("overlap_mean"), 0)
    rows = []
    for (model,), figures in shown.with_columns(excess=excess).group_by("model", maintain_order=True):
        rows.append((str(model), share(figures["excess"] <= RATIO), number(max(figures["excess"]), 3)))
    return grid(rows, "model", "overlaps that its accuracies allow", "largest excess")


def retained(overlaps: pl.DataFrame) -> tuple[float, float]:
    """Least and greatest |(A or B) and M| / |A or B or M| that a model's pairwise intersections allow.

    A, B, M: oriented sets of the helpful, harmless and mixed RM; only the intersection of all three is unknown.
    """
    pairs = ("helpful", "harmless"), (MIXED, "helpful"), (MIXED, "harmless")
    (ab, ab_union), (am, am_union), (bm, bm_union) = (
        overlaps.filter(regime_a=a, regime_b=b).select("intersection", "union").row(0) for a, b in pairs
    )
    a_b, a_m, b_m = ab + ab_union, am + am_union, bm + bm_union  # sums of two sizes
    a, b, m = (a_b + a_m - b_m) // 2, (a_b + b_m - a_m) // 2, (a_m + b_m - a_b) // 2
    least, greatest = max(0, am + bm - m, ab + am - a, ab + bm - b), min(ab, am, bm)
    low, high = (kept / (ab_union + m - kept) for kept in (am + bm - greatest, am + bm - least))
    return low, high


def neurons() -> str:
    overlap = read("neuron_overlap").with_columns(twice=pl.col("intersection") + pl.col("union"))
    quotient = overlap["intersection"] / overlap["union"]
    pair = overlap.filter(regime_a="helpful", regime_b="harmless")
    large, five = pair.filter(model="gpt2-large"), pair.filter(pl.col("model") != "gpt2-large")
    sizes = overlap.join(five, on="model", how="semi").group_by("model").agg(pl.col("twice").n_unique())["twice"]
    mean, of_five = (frame.select(pl.col("jaccard").mean()).item() for frame in (pair, five))
    low, high = (sum(side) / 6 for side in zip(*map(retained, overlap.partition_by("model")), strict=True))
    within = f"between {number(100 * low, 1)} and {number(100 * high, 1)}"
    whole = "all neurons, 36 layers of 5,120: the harmless set is the whole network"
    inside = "the whole helpful set: the Jaccard is 0.1 whatever the helpful set holds"
    agrees = "possible" if low < 0.55 < high else verdict(False)
    unknown = "the intersection of all three sets is not published"
    return checked(
        [
            equal("Jaccard, and intersection over union", overlap["jaccard"] - quotient),
            line("helpful and harmless, mean over six models", "0.477", mean),
            line("the same, percent", "about 48", 100 * mean),
            line("the same, without gpt2-large", "0.552", of_five),
            line("gpt2-large: union of helpful and harmless", "184,320", large["union"].item(), whole),
            line("gpt2-large: their intersection", "18,432", large["intersection"].item(), inside),
            line("models whose three sets are of one size", "5", sizes.to_list().count(1), "all but gpt2-large"),
            ("retained in the mixed RM, percent", "about 55", within, agrees, unknown),
        ]
    )


def rmsd() -> str:
    figures = read("chosen_rejected_rmsd").with_columns(family=pl.col("model").str.split("-").list.first())
    wide = figures.pivot("regime", index="family", values="rmsd", aggregate_function="mean").sort("family")
    regimes = [*SINGLES, MIXED]
    rows = ((family, *(number(v, 5) for v in values)) for family, *values in wide.select("family", *regimes).rows())
    return grid(rows, "family", *(f"{regime} RM" for regime in regimes))


def rmsd_order() -> str:
    wide = read("chosen_rejected_rmsd").pivot("regime", index="model", values="rmsd")
    return share(wide.select(pl.col("harmless") > pl.max_horizontal("helpful", MIXED)).to_series())


def single_regimes() -> str:
    accuracy = by_regime()
    means = accuracy.group_by("model", "orientation").agg(pl.col("own", "other", "mixed").mean())
    rows = []
    for claim, rival in (("C1: own RM beats the other one", "other"), ("C2: own RM beats the mixed one", "mixed")):
        for orientation in SINGLES:
            each, mean = (frame.filter(orientation=orientation) for frame in (accuracy, means))
            fails = mean.filter(pl.col("own") <= pl.col(rival))["model"].sort()
            held = share(each["own"] > each[rival]), share(mean["own"] > mean[rival])
            rows.append((f"{claim}, {orientation} tasks", *held, ", ".join(fails)))
    return grid(rows, "claim", "holds, of models and tasks", "on average, of models", "not on average")


def tasks() -> str:
    wins = [(pl.col("own") > pl.col(rival)).sum().alias(f"beats_{rival}") for rival in ("other", "mixed")]
    figures = by_regime().group_by("orientation", "task").agg(pl.col("own", "other", "mixed").mean(), *wins)
    ordered = figures.sort(pl.col("orientation") == "harmless", pl.col("own") - pl.col("other"))
    rows = ((*names, *(number(v, 1) for v in (own, other, mixed)), f"{c1} of 6", f"{c2} of 6")
            for *names, own, other, mixed, c1, c2 in ordered.rows())  # fmt: skip
    return grid(rows, "orientation", "task", "own RM", "other RM", "mixed RM", "C1 holds", "C2 holds")


def exceptions() -> str:
    helpful = dict.fromkeys(["Safety Response", "XStest Should Respond"], "helpful")
    harmless = dict.fromkeys(["LLM Bar (Adver", "Focus", "Precise IF", "Factuality"], "harmless")
    rows = []
    for start, regime in (helpful | harmless).items():
        named = by_regime().filter(pl.col("task").str.starts_with(start))
        ahead = named["other"] > named["own"]
        task = "LLM Bar, four adversarial subsets" if named["task"].n_unique() > 1 else start
        rows.append((f"{regime} RM ahead on {task}", share(ahead), verdict(ahead.all())))
    return grid(rows, "C3", "holds, of models and tasks", "everywhere")


def kept_tasks() -> str:
    kept = CELLS.filter(table="retention", model=OVERALL, ablation="none").select("orientation", "task", "published")
    rows = []
    for words, pattern, side in (("high", "Alpaca|Refus", 1), ("low", "Adver|Focus|Factuality", -1)):
        for orientation, task, value in kept.filter(pl.col("task").str.contains(pattern)).rows():
            mean = average("retention", "retention", orientation, ablation="none")
            rows.append((task, words, number(value, 3), number(mean, 3), verdict(side * (value - mean) > 0)))
    return grid(rows, "task", "C4 says", "retention", "mean of its orientation", "on that side of it")


def ablation_claims() -> str:
    own = CELLS.filter(pl.col("model") != OVERALL, table="own_ablation", quantity="delta", task=AVERAGE).sort("model")
    shared = read("shared_ablation_top10").pivot("ablated_set", index=["task", "orientation"], values="delta")
    worst = pl.col("shared") < pl.min_horizontal("helpful_only", "harmless_only")
    rows = []
    for regime in SINGLES:
        for orientation in SINGLES:
            effects = own.filter(regime=regime, orientation=orientation)
            holds = effects["published"] < 0 if regime == orientation else effects["published"] > 0
            words = "costs accuracy on its own" if regime == orientation else "helps on the other,"
            rows.append(
                (
                    f"C9: {words} {orientation} tasks, {regime} RM",
                    share(holds),
                    ", ".join(effects.filter(~holds)["model"]),
                )
            )
    for orientation in SINGLES:
        effects = shared.filter(orientation=orientation)
        holds = effects.select(worst).to_series()
        claim = f"C12: shared neurons cost more than either exclusive set, {orientation} tasks"
        rows.append((claim, share(holds), ", ".join(effects.filter(~holds)["task"])))
    return grid(rows, "claim", "holds, of models (C9) or tasks (C12)", "not on")


def with_length(figure: str, measure: str, tasks: str) -> list[float]:
    """Pearson's and Spearman's correlation, over tasks (all, or an orientation's), of a column of `leads` with the
    share that the longer response wins."""
    of = leads().filter(pl.lit(tasks == "all") | (pl.col("orientation") == tasks))
    methods: tuple[Literal["pearson", "spearman"], ...] = ("pearson", "spearman")
    return [of.select(pl.corr(figure, f"longer_{measure}", method=method)).item() for method in methods]


def length_correlations() -> str:
    names = {"lead": "helpful minus harmless RM"} | {regime: f"{regime} RM" for regime in (*SINGLES, MIXED)}
    rows = []
    for measure, (figure, words) in product(MEASURES, names.items()):
        cells = (" / ".join(map(number, with_length(figure, measure, tasks))) for tasks in ("all", *SINGLES))
        rows.append((words, measure, *cells))
    sizes = [leads().height, *(leads().filter(orientation=o).height for o in SINGLES)]
    heads = (f"{tasks} tasks ({n})" for tasks, n in zip(("all", *SINGLES), sizes, strict=True))
    return grid(rows, "accuracy of", "length in", *heads)


def length_shares() -> str:
    """Percent of each task's comparisons that either side of length wins, and the lead, by the share."""
    ordered = leads().sort("orientation", "longer_characters", descending=[True, False])
    won = [f"{side}_{measure}" for measure in MEASURES for side in ("longer", "shorter")]
    columns = [pl.col("n").cast(pl.String), *(pl.col(name) * 100 for name in won), "lead"]
    rows = ((*cells[:3], *(number(v, 1) for v in cells[3:]))
            for cells in ordered.select("orientation", "task", *columns).rows())  # fmt: skip
    heads = (f"{name.split('_')[0]} in {name.split('_')[1]} wins, %" for name in won)
    return grid(rows, "orientation", "task", "comparisons", *heads, "helpful minus harmless RM")


def towards_chance() -> str:
    """How many effects of own ablation bring an accuracy nearer to chance, of those above and below it."""
    own = read("ablation_top10").filter(pl.col("model") != "model_average").join(comparisons(), on="task")
    after, before = ((pl.col(state) - pl.col("chance")).abs() for state in ("ablated", "baseline"))
    nearer = own.select(after < before, above=pl.col("baseline") >= pl.col("chance"))
    sides = (nearer.filter(above=above)["ablated"] for above in (True, False))
    return "{} of those above chance, {} of those below".format(*map(share, sides))


TEXT = """# Audit of the published figures

Generated by `python docs/replication_audit.py` from `resources/paper` and, for the section "Length", from
`resources/length.csv`; edit the script, not this page. It asks whether the figures of
[arXiv 2606.13209](https://arxiv.org/abs/2606.13209) agree with what the paper states and with one another, and how far
they bear out its claims (C1 to C12). No reward model was trained for it. A stated figure **agrees** if the recomputed
one, rounded to the stated digits, is the same. RM stands for reward model.

## Findings

- Every average that the paper states follows from its own tables, but for one of the four "about -1".
- Tables 1, 4, 17 and 18 are not means over the six models that the paper names. They fit means over **seven** ("Means
  over seven models" below); Tables 2 and 3 are means over six. That explains why baselines of the same mixed reward
  models differ (61.04 and 60.62, 50.47 and 50.35), and why Table 15 does not average to Table 1.
- Table 19 (retention under ablation) holds running means over the sets, not the figures of each: for shared neurons
  0.539 is printed and 0.485 follows on helpful tasks, 0.598 and 0.519 on harmless ones ("Retention under ablation").
- The pairwise overlaps (Tables 11, 12) can be those of gpt2-large, of no other model, and of no mean over the six.
- The mean overlap of helpful and harmless neurons, 48 %, includes a degenerate model; without it the mean is 55 %.
- C1 and C2 hold on average for every model but one, and task by task for little more than half of the helpful ones.
- Over the {with_files} tasks whose benchmark files were at hand, the lead of helpful over harmless reward models goes
  with the share that the longer response wins: Pearson's correlation is {pearson}, Spearman's {spearman} ("Length").
- Ablating a reward model's own neurons moves five of six accuracies towards chance, from below as from above.

## Counts

The study has the stated size, and its accuracies are what so many comparisons can give.

{counts}

## Averages

Means over the tasks of an orientation. Math, which is in two benchmarks, counts once and stands once in every file.

{averages}

## One table against another

Figures that stand in two places, or follow from others, should be equal.

{agreements}

## Means over seven models

A mean accuracy of k reward models on n comparisons is a whole number out of k n. So what is printed for the mixed
reward model under shared and exclusive ablation, baselines and changes, tells k. Here are the {figures} figures
on tasks of at most {counted} comparisons, where two decimals suffice to tell:

{how_many_models}

Of these only seven models of three seeds give them all. If six of them are the models of the other tables, the
seventh has the figures below (accuracy in percent, within 0.04 because of rounding). They are all possible, and they
fit one another: on the four tasks on which harmless reward models are right more than 95 % of the time, retention
must come close to the mixed one's accuracy, as a fraction. The two implied figures, from different tables, differ
there by at most {implied_gap}.

{seventh_model}

The seventh model is not named. The authors' public code (`EshaanT/RM-alignment_tension`,
`RM_interpretation/rm_model/model.py`) lists seven backbones, these six and OLMo-2-1B, and their notebook's list of
models has the latter commented out. That makes it the likely one; the figures cannot prove it. So Table 4 rests on
other reward models than Tables 2 and 3 do, and what it would be for the six is not published.

## Retention and overlap against accuracy

Let M be what the mixed reward model gets right, U what either single-objective one does. |U| is at least the better
one's accuracy, so retention |M and U| / |U| lies between (M + best - 100) / best and M / best. Rows of Table 15
within these bounds, give or take {ratio} (a mean of ratios over seeds is not a ratio of means): {bounds}.

Likewise an overlap |M and S| / |M or S| is at most the smaller accuracy over the larger. The pairwise tables do not
say whose they are; these are the rows that each model's accuracies allow:

{whose_overlaps}

## Retention under ablation

The cell of the authors' notebook behind Table 19 never empties its lists between sets. What it prints after the
k-th set is the mean over this and all sets before it, in the order
{order}. With x as printed, a set's own figure
is `k x(k) - (k - 1) x(k - 1)`: un-mixed. The accuracies say so too: without a set the mixed reward model has the
accuracy M of Tables 17 and 18, and retention is bounded as above. Of the 75 figures, give or take {ratio}:

{running_means}

(Accuracies of single-objective reward models are means over six, the other figures over seven.) On the four tasks
on which harmless reward models are right more than 95 % of the time, the union is nearly everything, so that
retention must come close to M as a fraction. The two differ there by at most {unmixed_gap}.

Both, task by task; bold what the accuracies of the first line above do not allow. `tables/published` has the
un-mixed ones.

{table_19}

## Neuron overlap

Oriented sets of 10 % of a model's neurons, scores averaged over seeds (C11).

{neurons}

## Chosen and rejected texts

Root mean square difference of a neuron's mean activation (Table 16, C8), mean over the models of a family. The paper
gives no scale by which it is small. Models in which the harmless reward model has the largest: {rmsd_order}.

{rmsd}

## Claims on accuracy

Own: the single-objective reward model of the task's orientation; other: the other single-objective one. These are
means over seeds, so that one beats another says nothing about significance.

{single_regimes}

Task by task (accuracies in percent, mean over the six models; C1 and C2: of the models):

{tasks}

The exceptions that the paper names:

{exceptions}

Where retention is said to be high or low (Table 1, so over seven models):

{kept_tasks}

## Length

`resources/length.csv` has, for each task that lies in RewardBench and RM-Bench alone and whose file was at hand, what
share of its comparisons the response with more or with fewer characters wins (in words as well; a tie is won by
neither; RM-Bench's comparisons are those of one style, as in the published accuracies). The script derives it anew from
the two benchmarks' files if they are named. The other tasks are those of RewardBench 2, and Math.

{length_shares}

Correlation of these shares with accuracy (mean over the six models), Pearson's / Spearman's:

{length_correlations}

So what looks like two objectives may in part be a taste for length: claim L1 asks this of a study, by Spearman's
correlation, with an interval, and counts tokens instead of characters. The figures that stand beside it are Spearman's
in characters, from the first line.

## Claims on ablation

Means over an orientation's tasks for C9, over models for C12.

{ablation_claims}

Ablated accuracies that lie nearer to chance than the unablated ones (own neurons; models, regimes and tasks without
Math): {towards_chance}. A loss on the own
orientation and a gain on the other are what a movement towards chance looks like. To say more takes a control, such
as other neurons that are as loud.

## What cannot be recomputed

No score of a single comparison is published. So there is nothing to draw intervals or tests from, and no figure can
be recomputed from its definition: retention, overlaps and standard deviations are taken as printed. Score shift (C5,
Figure 3), ablation curves (C6, Figures 5 and 6), depth (C7, Figure 4), compression (C10, Figure 7), accuracies on
HH-RLHF (Table 10) and the shared ablation of each model have no numbers here. Of the neuron sets only sizes of
intersections are known, and of those that were ablated as shared or exclusive not even these.

The authors' code also does what no published figure shows, and what can therefore be neither confirmed here nor
taken out ([methods.md](methods.md), section 9, N2 to N11): depth pools neurons over models, so that gpt2-large's
whole network is about 80 % of the harmless bar of Figure 4; Figures 3 and 7 pool all subsets, not the 25 tasks; one
random set serves all three regimes (Figures 5 and 6); evaluation is in bfloat16, in which scores tie, and a tie is
wrong; a checkpoint is kept only where its step is a multiple of 500; a retention of nothing counts as 0 (Tables 1,
15, 19); and RewardBench's id 3692, in Do Not Answer and in hep-python, makes one comparison of two, which can
change the retention on Do Not Answer by no more than one comparison of {do_not_answer}.
"""


def page() -> str:
    sections = (counts, averages, agreements, how_many_models, implied_gap, seventh_model, bounds, whose_overlaps,
                running_means, unmixed_gap, table_19)  # fmt: skip
    claims = (neurons, rmsd, rmsd_order, single_regimes, tasks, exceptions, kept_tasks, length_shares,
              length_correlations, ablation_claims, towards_chance)  # fmt: skip
    parts = {part.__name__: part() for part in (*sections, *claims)}
    order = ", ".join(SETS.values())
    pearson, spearman = map(number, with_length("lead", "characters", "all"))
    [do_not_answer] = read("tasks").filter(task="Do Not Answer")["n_prompts"]
    return TEXT.format(
        **parts, figures=len(possible(7)), counted=COUNTED, ratio=RATIO, order=order, do_not_answer=do_not_answer,
        with_files=leads().height, pearson=pearson, spearman=spearman,
    )  # fmt: skip


if __name__ == "__main__":
    if files := [Path(name) for name in sys.argv[1:]]:
        shares(*files).write_csv(LENGTHS)
    PAGE.write_text(page(), encoding="utf-8")
