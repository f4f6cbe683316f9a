"""Figures read back: they draw the numbers of made-up tables, of the default study's size and of the paper's."""

from __future__ import annotations

from functools import cache, reduce
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text

from rmtension.base.errors import UserError
from rmtension.report.drawing import TASK, style
from rmtension.report.figures import FIGURES, lay_out, make_figures, selected, write_figure
from rmtension.report.rules import is_given
from rmtension.study.naming import BOTH, OVERALL
from rmtension.study.stages import Analysis, Figures

SETTINGS = Figures(dpi=40)
REGIMES = ["helpful", "harmless", "helpful-harmless"]
MIXED = pl.DataFrame({"regime": ["helpful-harmless"]})
PAPER = pl.read_csv(Path(__file__).parents[3] / "resources/paper/tasks.csv")
SETS = ["shared", "helpful-only", "harmless-only"]
THIRDS = ["early", "middle", "late"]
CHANCE = pl.lit(0.053).alias("chance")
Tables = dict[str, pl.DataFrame]


def crossed(*frames: pl.DataFrame | dict[str, list[Any]]) -> pl.DataFrame:
    """Every combination of the frames' rows."""
    return reduce(lambda left, right: left.join(right, how="cross"), map(pl.DataFrame, frames))


def valued(keys: pl.DataFrame, spread: float, **centres: float | pl.Expr) -> pl.DataFrame:
    """Adds values drawn around their centres, with intervals around them; every ninth row has no interval."""
    random = np.random.default_rng(0)
    for value, centre in centres.items():
        mean = pl.Series(random.normal(0, spread, len(keys))) + keys.select(value=centre)["value"]
        half = pl.Series(random.uniform(0.3, 1.5, len(keys)) * spread / 2)
        known = pl.int_range(pl.len()) % 9 != 4
        keys = keys.with_columns(
            mean.alias(f"{value}_mean"),
            (half / 3).alias(f"{value}_sd"),
            pl.when(known).then(mean - half).alias(f"{value}_low"),
            pl.when(known).then(mean + half).alias(f"{value}_high"),
        )
    return keys


def histograms(keys: pl.DataFrame) -> pl.DataFrame:
    """Bell-shaped shares in thirty bins around a centre drawn for each row of `keys`."""
    random = np.random.default_rng(1)
    centres = keys.with_columns(centre=pl.Series(random.normal(0, 0.6, len(keys))))
    bins = crossed(centres, {"left": [x / 5 for x in range(-15, 15)]})
    bell = (-((pl.col("left") + 0.1 - pl.col("centre")) ** 2)).exp()
    share = bell / bell.sum().over(keys.columns)
    return bins.with_columns(right=pl.col("left") + 0.2, share=share).drop("centre")


def causes(of_models: pl.DataFrame, sets: pl.DataFrame) -> Tables:
    """The tables about patching and conflict; sets: set, control."""
    donors = {"donor": REGIMES[:2]}, {"tasks": ["own tasks", "own test"]}
    gaps = valued(crossed(of_models, MIXED, *donors), 2, gap=9)
    inside = crossed(of_models, MIXED.rename({"regime": "mixture"}), {"regime": REGIMES})
    everywhere = pl.concat([pl.DataFrame({"set": ["all"], "control": ["whole"]}), sets])
    layers = inside.filter(pl.col("model") != OVERALL)
    return {
        "patching": valued(crossed(gaps, sets), 3, delta=4),
        "conflict": valued(crossed(inside, everywhere), 0.3, cosine=-0.2),
        "conflict_layers": valued(crossed(layers, {"layer": [*range(12)]}), 0.3, cosine=0.1),
    }


RULES = ["longer", "shorter", *(f"words:{regime}" for regime in REGIMES)]
OWN = pl.DataFrame({
    "benchmark": "hh-test", "orientation": ["helpful", "helpful", "harmless"], "task": ["base", "online", "base"],
    "n_comparisons": pl.Series([30, 10, 20], dtype=pl.UInt32),
})  # fmt: skip


def rules_and_calibration(of_models: pl.DataFrame, places: pl.DataFrame) -> Tables:
    """The tables about rules, length and calibration; places: benchmark, orientation, task of all but the own tests."""
    names = pl.DataFrame({"benchmark": [*OWN["benchmark"].unique(), *places["benchmark"].unique(maintain_order=True)]})
    regimes, sizes = pl.DataFrame({"regime": REGIMES}), pl.DataFrame({"n_comparisons": [40.0, 20, 60]})
    tests = crossed(of_models, regimes.hstack(sizes), names).with_columns(n_unscored=pl.lit(0.0))
    everywhere = pl.concat([OWN, places.select(*OWN.columns[:3], n_comparisons=pl.lit(50, pl.UInt32))])
    ablations = {"ablation": ["none", "magnitude-p10"]}
    bins = crossed(of_models, regimes, names, ablations, {"left": [x / 20 for x in range(10, 20)]})
    bins = bins.with_columns(right=pl.col("left") + 0.05)
    singles = {"first": "helpful", "second": "harmless", "tasks": ["all", "helpful", "harmless"]}
    return {
        "surface": valued(crossed(everywhere, {"rule": RULES}), 15, accuracy=50),
        "benchmark_accuracy": valued(tests, 12, accuracy=60),
        "length": crossed(of_models, regimes, places.select(TASK).unique(maintain_order=True), ablations).with_columns(
            n_longer=pl.int_range(pl.len()).over("model", "regime", "ablation") + 3.0, n_shorter=5.0
        ),
        "length_lead": valued(of_models.join(pl.DataFrame(singles), how="cross"), 0.2, correlation=0.5),
        "reliability": valued(bins, 0.01, share=10, confidence=pl.col("left") + 0.02, accuracy=100 * pl.col("left")),
    }


def repairs(of_models: pl.DataFrame) -> pl.DataFrame:
    ways = pl.DataFrame({"regime": ["merged", "frozen-shared", "ensemble"], "pairs_seen": [0.0, 4e4, 0.0],
                         "pairs_needed": [8e4, 12e4, 8e4], "scoring_cost": [1.0, 1, 2]})  # fmt: skip
    where = {"orientation": [*REGIMES[:2], BOTH]}, {"tasks": ["own tasks", "own test"]}
    places = *where, {"measure": ["accuracy", "balanced"]}
    rows = crossed(of_models, ways, MIXED.rename({"regime": "mixture"}), *places)
    return valued(rows, 2, gap=4, gain=2, closed=0.5)


def example(sizes: dict[str, int], tasks: pl.DataFrame, scorings: list[str], percents: list[int]) -> Tables:
    """Tables of a study with models of those numbers of neurons and those tasks (benchmark, orientation, task)."""
    of_models = pl.DataFrame({"model": [*sizes, OVERALL]})
    neurons = of_models.with_columns(all=pl.Series([*sizes.values(), sum(sizes.values()) // len(sizes)]))
    regimes, scored = pl.DataFrame({"regime": REGIMES}), pl.DataFrame({"scoring": scorings})
    averages = tasks.select("orientation").unique(maintain_order=True).with_columns(task=pl.lit("average"))
    helpful_first = pl.col("orientation").rank("dense", descending=True)
    places, tasks = tasks, tasks.select(TASK)
    tasks = pl.concat([tasks.unique(maintain_order=True), averages]).sort(helpful_first, maintain_order=True)
    pairs = pl.DataFrame(list(combinations(REGIMES, 2)), schema=["first", "second"], orient="row")
    selections, responses = {"selection": ["exact", "authors"]}, {"response": ["chosen", "rejected"]}

    own, size = {"benchmark": ["hh-test"]}, (pl.col("percent") / 100 * pl.col("all")).round()
    sets = pl.concat([
        crossed({"ablation": SETS}, {"control": ["whole", "size-matched", "matched-random"]}),
        pl.DataFrame({"ablation": ["shared-authors", "random"], "control": ["whole", "random"]}),
    ])  # fmt: skip
    curve = crossed(neurons, regimes, own, scored, {"percent": [0.0, *percents]}).with_columns(
        pl.lit(None, pl.Int64).alias("count"), n_neurons=size
    )
    swept = curve.filter(pl.col("percent") > 0).rename({"scoring": "family"}).with_columns(control=pl.lit(""))
    mixed = crossed(neurons, MIXED, own, sets.rename({"ablation": "family"}))
    mixed = mixed.with_columns(
        pl.lit(None, pl.Int64).alias("count"), percent=pl.when(control="whole").then(7.0).otherwise(3.0)
    ).with_columns(n_neurons=size)
    fall = -3 * pl.col("percent").sqrt()  # the larger the set, the greater the damage
    lengths, zeros = pl.col("scoring").str.len_chars(), {"replaced_by": ["zero"]}

    shifts = crossed({"figure": ["shift"]}, MIXED, {"single": REGIMES[:2]}, {"state": ["mixed", "single"]})
    compressions = crossed({"figure": ["compression"]}, regimes, {"single": [""]}, {"state": ["after", "before"]})
    claims = crossed({"claim": ["C1", "C2"]}, {"part": ["average", "magnitude over random"]}, {"control": ["a", "b"]})
    claims = valued(claims, 3, control=0.5).rename({"control_mean": "control_estimate"}).with_columns(
        estimate=pl.Series([1.0, 1, -2, -2, 3, 3, 4, 4]), low=pl.Series([0.5, 0.5, -3, -3, -1, -1, None, None]),
        high=pl.Series([2.0, 2, -1, -1, 5, 5, None, None]), threshold=pl.lit(0.0), unit=pl.lit("points"),
        verdict=pl.Series(["holds"] * 2 + ["does not hold"] * 2 + ["undecided"] * 4),
    )  # fmt: skip
    rejected = (pl.col("candidates_per_comparison") - 1).cast(pl.String)
    card = PAPER.select("benchmark", "task", kind="benchmark", chosen=pl.lit("1"), rejected=rejected)
    own_card = OWN.select("benchmark", "task", kind=pl.lit("regime-test"), chosen=pl.lit("1"), rejected=pl.lit("1"))
    sets_of_causes = sets.filter(pl.col("ablation") != "shared-authors").rename({"ablation": "set"})
    judged = crossed({"orientation": REGIMES[:2]}, {"tasks": ["own test", "own tasks"]})
    made = rules_and_calibration(of_models, places) | causes(of_models, sets_of_causes)
    return made | {
        "benchmarks_card": pl.concat([card, own_card]).with_columns(comparisons=10),
        "models_card": pl.DataFrame({"model": [*sizes], "kind": ["pretrained"] * len(sizes)}),
        "tension": valued(
            crossed(of_models, MIXED, judged, sets_of_causes, {"replaced_by": ["zero", "mean"]}), 3, delta=-2
        ),
        "accuracy": valued(crossed(of_models, regimes, tasks), 12, accuracy=55),
        "contrasts": valued(crossed(of_models, pairs, tasks), 12, difference=0),
        "retention": valued(crossed(of_models, MIXED, {"ablation": ["none", *SETS]}, tasks), 0.1, retention=0.6),
        "own_ablation": valued(crossed(of_models, regimes, scored, zeros, tasks), 9, delta=-2),
        "shared_ablation": valued(crossed(of_models, MIXED, sets, zeros, tasks), 9, delta=-2),
        "ablation_curve": valued(curve, 2, accuracy=80 + fall * lengths / 9),
        "set_size": valued(pl.concat([swept, mixed.select(swept.columns)]), 1.5, delta=fall),
        "score_histogram": histograms(crossed(of_models, pl.concat([shifts, compressions]), responses)),
        "score_shift": crossed(of_models, shifts.select("regime", "single")),
        "compression": crossed(of_models, regimes),
        "repair": repairs(of_models),
        "depth": valued(crossed(of_models, regimes, scored, selections, {"third": THIRDS}), 8, share=33),
        "neuron_overlap": valued(crossed(of_models, pairs, scored, selections), 0.1, jaccard=0.5).with_columns(CHANCE),
        "stability": valued(crossed(of_models, regimes, scored), 0.1, jaccard=0.6).with_columns(CHANCE),
        "claims": claims,
    }


SCORINGS = ["magnitude", "change", "random", "mean", "head-norm", "head-random", "mean_abs", "probability"]
SMALL = example(
    {"tiny-gpt2": 768, "tiny-llama": 576},
    pl.DataFrame(
        {
            "benchmark": ["one"] * 8 + ["two"],
            "orientation": [*["helpful", "harmless"] * 4, "helpful"],
            "task": [f"task {i}" for i in (*range(8), 2)],
        }
    ),
    SCORINGS[:6],
    [2, 5, 10, 20, 30, 50, 100],
)
Pages = list[Figure]


@cache
def small() -> dict[str, Pages]:
    """Every figure of the small tables."""
    return make_figures(SMALL, SETTINGS, Analysis())


def panels(pages: Pages) -> list[Axes]:
    """Of all pages."""
    return [ax for page in pages for ax in page.axes]


def redrawn(name: str, changed: Tables | None = None, **analysis: str) -> Pages:
    """One figure alone, of the small tables with some changed."""
    chosen = {k: selected(t, Analysis.model_validate(analysis)) for k, t in (SMALL | (changed or {})).items()}
    with mpl.rc_context(style(SETTINGS)):
        return FIGURES[name].pages(chosen, is_given(chosen["models_card"]))


def series(ax: Axes) -> dict[str, Any]:
    """The lines of a panel by their name in the legend."""
    return {str(line.get_label()): line for line in ax.get_lines()}


def intervals(ax: Axes) -> set[tuple[float, ...]]:
    """Ends of all bars in a panel: left, low, right, high."""
    found = [bars.get_segments() for bars in ax.collections if isinstance(bars, LineCollection)]
    return {tuple(segment.ravel()) for bars in found for segment in bars if len(segment)}


def of(name: str, **keys: Any) -> pl.DataFrame:
    return SMALL[name].filter(**keys)


def test_curves_and_their_bands_are_the_table() -> None:
    ax = panels(small()["ablation_curve_by_model"])[4]
    assert ax.get_title() == "tiny-llama\nharmless, hh-test"
    for i, scoring in enumerate(SCORINGS[:6]):
        rows = of("ablation_curve", model="tiny-llama", regime="harmless", scoring=scoring)
        assert np.array_equal(series(ax)[scoring].get_xydata(), rows.select("percent", "accuracy_mean"))
        [band] = ax.collections[i].get_paths()[:1]
        first = rows.row(0, named=True)
        assert [0, first["accuracy_low"]] in np.asarray(band.vertices).tolist()
    looks = [(line.get_marker(), line.get_linestyle()) for line in ax.get_lines()[1:]]
    assert len(set(looks)) == 6
    overall = of("ablation_curve", model=OVERALL, regime="helpful", scoring="change")["accuracy_mean"]
    assert np.array_equal(series(panels(small()["ablation_curve"])[0])["change"].get_ydata(), overall)


def test_intervals_of_few_sizes_are_bars() -> None:
    few = SMALL["ablation_curve"].filter(pl.col("percent") <= 10)
    [ax, *_] = panels(redrawn("ablation_curve", {"ablation_curve": few}))
    rows = few.filter(model=OVERALL, regime="helpful", scoring=SCORINGS[1]).drop_nulls("accuracy_low")
    drawn = [np.asarray(path.vertices).tolist() for path in ax.collections[1].get_paths()]
    ends = rows.select("percent", "accuracy_low", "accuracy_high").rows()
    assert drawn == [[[x, low], [x, high]] for x, low, high in ends] and len(ends) > 1
    asides = {line.get_transform().transform((10, 60))[0] for line in ax.get_lines()[1:]}
    assert len(asides) == few["scoring"].n_unique()


def test_chance_on_a_curve_is_that_of_its_benchmark() -> None:
    """Of 30 pairs, and 10 comparisons of one chosen and three rejected responses."""
    [benchmark] = SMALL["ablation_curve"]["benchmark"].unique()
    card = pl.DataFrame({"benchmark": [benchmark, benchmark, "other"], "task": ["a", "b", "c"], "kind": "synthetic",
                         "chosen": "1", "rejected": ["1", "3", "1"], "comparisons": [30, 10, 5]})  # fmt: skip
    [ax, *_] = panels(redrawn("ablation_curve", {"benchmarks_card": card}))
    assert set(series(ax)["chance"].get_ydata()) == {(30 * 50 + 10 * 25) / 40}


def test_sets_at_their_means_stand_beside_those_at_zero() -> None:
    table = SMALL["own_ablation"].filter(scoring="magnitude")
    by_means = table.with_columns(pl.col("delta_mean") - 50, replaced_by=pl.lit("mean"))
    ax = panels(redrawn("own_ablation", {"own_ablation": pl.concat([table, by_means])}))[0]
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["magnitude"] * 3 + ["magnitude, by means"] * 3  # of each regime
    values = [float(text.get_text()) for text in ax.texts if text.get_text()[0] in "+-"]
    assert values[0] - values[3] == pytest.approx(50, abs=0.11)


def counted(name: str, counts: tuple[int, ...] = (1, 10, 100)) -> pl.DataFrame:
    """A table of sizes with counts too, which stand before the percents."""
    table = SMALL[name]
    few = table.filter(percent=2.0).join(pl.DataFrame({"n": counts}), how="cross")
    sizes = {"percent": pl.lit(None, pl.Float64), "count": pl.col("n"), "n_neurons": pl.col("n").cast(pl.Float64)}
    return pl.concat([few.with_columns(**sizes).drop("n"), table])


def test_counts_stand_among_percents_by_their_number_of_units() -> None:
    tables = {name: counted(name) for name in ("ablation_curve", "set_size")}
    ax = panels(redrawn("ablation_curve_by_model", tables))[4]
    rows = tables["ablation_curve"].filter(model="tiny-llama", regime="harmless", scoring="change").sort("n_neurons")
    assert rows["n_neurons"].to_list()[:5] == [0, 1, 10, 12, 29] and rows["count"].to_list()[:4] == [None, 1, 10, None]
    assert np.array_equal(series(ax)["change"].get_xydata(), rows.select("n_neurons", "accuracy_mean"))
    assert ax.get_xscale() == "symlog"
    sizes = [ax for ax in panels(redrawn("set_size", tables)) if ax.get_title() == "tiny-llama\nharmless, hh-test"]
    line = np.asarray(series(sizes[0])["change"].get_xdata())
    assert line.tolist() == rows["n_neurons"].to_list()[1:] and sizes[0].get_xscale() == "symlog"


def test_dots_lie_beside_their_tasks_and_missing_intervals_have_no_bar() -> None:
    ax = panels(small()["accuracy"])[2]
    assert ax.get_title() == OVERALL
    names = [label.get_text() for label in panels(small()["accuracy"])[0].get_yticklabels()]
    assert names[3:6] == ["task 6", "mean of helpful tasks", "task 1"]
    rows = of("accuracy", model=OVERALL, regime="harmless")
    dots = series(ax)["harmless"]
    assert np.array_equal(dots.get_xdata(), rows["accuracy_mean"])
    assert np.array_equal(np.round(np.asarray(dots.get_ydata(), float)), range(10))
    known = of("accuracy", model=OVERALL).drop_nulls("accuracy_low")
    assert 0 < len(known) < 30
    assert {(left, right) for left, _, right, _ in intervals(ax)} >= set(
        known.select("accuracy_low", "accuracy_high").rows()
    )
    assert len(intervals(ax)) == len(known)


def surface_rows(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def near(line: Any, row: int) -> list[float]:
    """x of a line's marks in a row of the y axis."""
    return [float(x) for x, y in line.get_xydata() if abs(y - row) < 0.5]


def test_rules_stand_beside_the_reward_models_of_the_same_place() -> None:
    [ax] = panels(small()["surface"])
    rows, lines = surface_rows(ax), series(ax)
    assert rows == [
        *("helpful: hh-test", "own test", "helpful: one", "task 0", "task 4", "task 6"),
        *("helpful: one and two", "task 2", "mean of helpful tasks"),
        *("harmless: hh-test", "own test", "harmless: one", "task 1", "task 3", "task 5", "task 7"),
        "mean of harmless tasks",
    ]
    rules, shared = SMALL["surface"], of("accuracy", model=OVERALL)
    for rule in RULES:
        base, online = rules.filter(rule=rule, benchmark="hh-test", orientation="helpful")["accuracy_mean"]
        assert near(lines[rule], 1) == pytest.approx([(30 * base + 10 * online) / 40])
        both = rules.filter(rule=rule, task="task 2")["accuracy_mean"]
        assert near(lines[rule], 7) == pytest.approx([(both[0] + both[1]) / 2])
        tasks = [near(lines[rule], row)[0] for row in (12, 13, 14, 15)]
        assert near(lines[rule], 16) == pytest.approx([sum(tasks) / 4])
    for regime in REGIMES:
        [mean] = shared.filter(regime=regime, orientation="helpful", task="average")["accuracy_mean"]
        assert near(lines[regime], 8) == [mean]
        own = of("benchmark_accuracy", model=OVERALL, benchmark="hh-test", regime=regime)["accuracy_mean"].to_list()
        assert (near(lines[regime], 1), near(lines[regime], 10)) == {
            "helpful": (own, []), "harmless": ([], own), "helpful-harmless": ([], [])}[regime]  # fmt: skip
        words = lines[f"words:{regime}"]
        assert words.get_marker() == lines[regime].get_marker() and words.get_markerfacecolor() == "white"
    known = shared.drop_nulls("accuracy_low").select("accuracy_low", "accuracy_high").rows()
    assert {(left, right) for left, _, right, _ in intervals(ax)} >= set(known)


def test_an_own_test_on_other_comparisons_is_not_drawn() -> None:
    """A source that two regimes are tested on is, among the rules' tasks, the first one's alone."""
    longer = SMALL["benchmark_accuracy"].with_columns(pl.col("n_comparisons") + 1)
    [ax] = panels(redrawn("surface", {"benchmark_accuracy": longer}))
    assert not any(near(series(ax)[regime], row) for regime in REGIMES for row in (1, 10))
    assert near(series(ax)["longer"], 1)


def test_a_line_is_dotted_where_rules_were_judged_on_more_comparisons() -> None:
    is_short = (pl.col("regime") == "helpful") & (pl.col("benchmark") == "two")
    short = SMALL["benchmark_accuracy"].with_columns(n_unscored=pl.when(is_short).then(1.0).otherwise(0.0))
    [ax] = panels(redrawn("surface", {"benchmark_accuracy": short}))
    lines: list[Any] = [line for line in ax.collections if isinstance(line, LineCollection)]
    styled = [pair for line in lines for pair in zip(line.get_segments(), line.get_linestyle(), strict=False)]
    dotted = [round(segment[0][1]) for segment, (_, dashes) in styled if dashes]
    [low] = of("accuracy", model=OVERALL, regime="helpful", orientation="helpful", task="task 2")["accuracy_low"]
    assert sorted(dotted) == ([7, 8] if low is not None else [8])  # the task of both benchmarks, and the helpful mean


def test_rules_are_drawn_where_regimes_share_no_task() -> None:
    own = SMALL["surface"].filter(benchmark="hh-test")
    [ax] = panels(redrawn("surface", {"surface": own, "accuracy": SMALL["accuracy"].clear()}))
    assert surface_rows(ax) == ["helpful: hh-test", "own test", "harmless: hh-test", "own test"]
    assert all(near(series(ax)[f"words:{regime}"], 1) for regime in REGIMES) and near(series(ax)["helpful"], 1)
    unoriented = own.with_columns(orientation=pl.lit("unoriented"))
    assert "no data" in redrawn("surface", {"surface": unoriented})[0].texts[0].get_text()


def test_leads_stand_over_the_share_that_the_longer_response_wins() -> None:
    [ax] = panels(small()["length_lead"])
    first = of("length_lead", model=OVERALL, tasks="all")
    [(found, low, high)] = first.select(f"correlation_{end}" for end in ("mean", "low", "high")).rows()
    assert ax.get_title().splitlines() == [
        OVERALL, "helpful minus harmless", f"rank correlation {found:.2f} [{low:.2f}, {high:.2f}]"]  # fmt: skip
    drawn = {tuple(point) for line in ax.get_lines()[1:] for point in np.asarray(line.get_xydata())}
    leads = of("contrasts", model=OVERALL, first="helpful", second="harmless").filter(pl.col("task") != "average")
    share = 100 * pl.col("n_longer") / (pl.col("n_longer") + pl.col("n_shorter"))
    shares = of("length", model=OVERALL, regime="helpful", ablation="none").select("task", share=share)
    assert drawn == set(leads.join(shares, on="task").select("share", "difference_mean").rows())
    assert len(drawn) == 8


def test_curves_of_calibration_stand_above_their_histograms() -> None:
    page = small()["calibration_by_model"][0]
    above, below = ([ax for ax in page.axes if bool(ax.get_title()) is titled] for titled in (True, False))
    assert [ax.get_title() for ax in above[:2]] == ["tiny-gpt2\nas trained\nhh-test", "tiny-gpt2\nas trained\none"]
    keys = {"model": "tiny-gpt2", "regime": "harmless", "benchmark": "one", "ablation": "none"}
    rows = of("reliability", **keys)
    assert np.array_equal(
        series(above[1])["harmless"].get_xydata(), rows.select(100 * pl.col("confidence_mean"), "accuracy_mean")
    )
    values, edges, _ = [patch.get_data() for patch in below[1].patches if isinstance(patch, StepPatch)][1]
    assert np.array_equal(values, rows["share_mean"]) and np.allclose(edges, range(50, 101, 5))
    assert "magnitude-p10 set to zero" in above[3].get_title()
    # The histogram ends below the curves.
    assert below[1].transData.transform((0, max(values)))[1] < above[1].transData.transform((0, 0))[1]


def test_chance_counts_candidates() -> None:
    rows = [("task 0", "rm-bench", "3", "3"), ("task 2", "reward-bench-2", "1", "3"), ("task 2", "rm-bench", "3", "3"),
            ("task 4", "synthetic", "1", "1 to 2")]  # fmt: skip
    card = pl.DataFrame(rows, schema=["task", "kind", "chosen", "rejected"], orient="row")
    # Of 6 responses the 3 chosen ones are on top in 1 of 20 orders, of 4 the one in 1 of 4; a range is no number.
    for mode, (first, second) in {"strict": (5, 15), "same-style": (50, 37.5)}.items():
        mean = (first + second + 50 + 50) / 4
        dots, lines = (redrawn(name, {"benchmarks_card": card}, rm_bench=mode) for name in ("accuracy", "radar"))
        assert series(panels(dots)[0])["chance"].get_xdata().tolist() == [first, second, 50, 50, mean, *[50] * 5]
        assert series(panels(lines)[0])["chance"].get_ydata().tolist() == [first, second, 50, 50, first]


def test_radars_are_closed_and_give_way_to_dots_where_tasks_are_few() -> None:
    ax = panels(small()["radar_by_model"])[1]
    rows = of("accuracy", model="tiny-gpt2", regime="helpful", orientation="harmless").filter(
        pl.col("task") != "average"
    )
    mean = rows["accuracy_mean"].to_list()
    assert series(ax)["helpful"].get_ydata().tolist() == [*mean, mean[0]]
    assert series(ax)["helpful"].get_xdata().tolist() == pytest.approx([0, np.pi / 2, np.pi, 1.5 * np.pi, 0])
    few = SMALL["accuracy"].filter(pl.col("task").is_in(["task 1", "task 3", "task 0"]))
    assert {ax.name for ax in panels(redrawn("radar", {"accuracy": few}))} == {"rectilinear"}


def test_histograms_show_chosen_above_and_rejected_below_with_their_means() -> None:
    ax = panels(small()["compression"])[4]
    assert ax.get_title() == "tiny-llama\nharmless"
    stairs = [patch.get_data() for patch in ax.patches if isinstance(patch, StepPatch)]
    keys = {"model": "tiny-llama", "regime": "harmless", "figure": "compression"}
    order = [(state, response) for state in ("before", "after") for response in ("chosen", "rejected")]
    bars = sorted(intervals(ax))
    assert len(bars) == len(order)
    means = []
    for (state, response), drawn in zip(order, stairs, strict=True):
        rows = of("score_histogram", **keys, state=state, response=response)
        values, edges, _ = drawn
        assert np.allclose(values, rows["share"] * (100 if response == "chosen" else -100))
        assert np.allclose(edges, [*rows["left"], rows["right"][-1]])
        means.append(((rows["left"] + 0.1) * rows["share"]).sum())
    assert [x for x, *_ in bars] == pytest.approx(sorted(means))
    assert [ax.get_title() for ax in panels(small()["score_shift"])][:2] == [
        "tiny-gpt2\nhelpful-harmless, helpful", "tiny-gpt2\nhelpful-harmless, harmless"]  # fmt: skip


def cells(ax: Axes) -> Any:
    """The numbers of a heat map."""
    return np.asarray(ax.collections[0].get_array()).ravel()


def test_maps_of_change_have_tasks_over_models_then_each_models_averages() -> None:
    ax = panels(small()["shared_ablation"])[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[3:5] == ["task 6", "mean of helpful tasks"]
    assert names[-2:] == ["tiny-llama: mean of helpful tasks", "tiny-llama: mean of harmless tasks"]
    columns = [label.get_text() for label in ax.get_xticklabels()]
    assert columns[:3] + columns[-1:] == [
        "shared",
        "shared, size-matched",
        "shared, matched-random",
        "random, size-matched",
    ]
    drawn = cells(ax).reshape(len(names), len(columns))
    rows = of("shared_ablation", model=OVERALL, ablation="shared", control="matched-random")
    assert np.array_equal(drawn[:10, 2], rows["delta_mean"])
    last = of("shared_ablation", model="tiny-llama", task="average", orientation="harmless")
    assert np.array_equal(drawn[-1], last["delta_mean"])
    bold = [text.get_fontweight() == "bold" for text in ax.texts[-len(columns) - 1 : -1]]
    assert bold == [low is not None and low * high > 0 for low, high in last.select("delta_low", "delta_high").rows()]
    low, high = ax.collections[0].get_clim()
    assert low == -high


def test_overlap_has_the_selected_neurons_beside_chance() -> None:
    for selection in ("exact", "authors"):
        drawn = panels(redrawn("overlap", selection=selection))[1]
        rows = of("neuron_overlap", scoring="change", selection=selection).sort(
            "first", "second", descending=[True, False]
        )
        assert sorted(cells(drawn)) == sorted(rows["jaccard_mean"])
        first = of("neuron_overlap", scoring="change", selection=selection)["jaccard_mean"][0]
        assert drawn.texts[0].get_text() == f"{first:.2f}\n(0.05)"


def test_depth_has_bars_beside_the_random_share_of_the_same_kind() -> None:
    drawn = panels(small()["depth"])
    ax = next(ax for ax in drawn if ax.get_title() == "tiny-gpt2\nhead-norm")
    late = [bar.get_height() for bar in ax.patches[-3:] if isinstance(bar, Rectangle)]
    keys = {"model": "tiny-gpt2", "selection": "exact", "third": "late"}
    assert late == of("depth", scoring="head-norm", **keys)["share_mean"].to_list()
    assert (
        series(ax)["random"].get_ydata().tolist() == of("depth", scoring="head-random", **keys)["share_mean"].to_list()
    )
    assert not any("random" in ax.get_title() for ax in drawn)


def test_set_size_marks_every_set_and_control() -> None:
    ax = panels(small()["set_size"])[2]
    marks = {k: v for k, v in series(ax).items() if k.startswith(("shared", "helpful", "harmless")) or "," in k}
    assert len({(line.get_marker(), line.get_fillstyle()) for line in marks.values()}) == len(marks) == 11
    [point] = of("set_size", model="tiny-gpt2", family="shared", control="size-matched").rows(named=True)
    assert marks["shared, size-matched"].get_xydata().tolist() == [[point["n_neurons"], point["delta_mean"]]]
    rows = of("set_size", model="tiny-gpt2", family="change", regime="helpful-harmless")
    assert np.array_equal(series(ax)["change"].get_xydata(), rows.select("n_neurons", "delta_mean"))
    assert not any(name.startswith("head-") for name in series(ax))


def test_claims_show_each_part_once_with_all_its_controls() -> None:
    first, second = panels(small()["claims"])
    assert [label.get_text() for label in first.get_yticklabels()] == ["average", "magnitude over random"]
    assert series(first)["does not hold"].get_xydata().tolist() == [[-2, 1], [-2, 1]]
    assert series(first)["control"].get_xdata().tolist() == of("claims", claim="C1")["control_estimate"].to_list()
    # The second part of the other claim has no interval, and a mark alone.
    assert [label.get_text() for label in second.get_yticklabels()] == ["average", "magnitude over random"]


@pytest.fixture(scope="module")
def large() -> dict[str, Pages]:
    sizes = {"gpt2": 36864, "gpt2-medium": 98304, "gpt2-large": 184320}
    sizes |= {"smollm2-135m": 46080, "smollm2-360m": 81920, "smollm2-1.7b": 196608}
    tables = example(sizes, PAPER.select("benchmark", *TASK), [*SCORINGS, "matched-random"], [*range(2, 32, 2), 100])
    return make_figures(tables, SETTINGS, Analysis())


def test_sets_are_marked_at_their_figures_beside_the_gap_and_zero() -> None:
    keys = {"model": OVERALL, "donor": "harmless", "tasks": "own test"}
    [panel] = [
        ax for ax in panels(small()["patching"]) if ax.get_title() == f"{OVERALL}\nharmless's activations,\nown test"
    ]
    table = of("patching", **keys)
    assert set(np.asarray(series(panel)["donor"].get_xdata())) == {table["gap_mean"][0]}
    lines = [np.asarray(line.get_xydata()).tolist() for line in panel.get_lines()]
    marks = [points[0] for points in lines if len(points) == 1]
    assert sorted(marks) == sorted([mean, i] for i, mean in enumerate(table["delta_mean"]))
    ends = table.with_row_index("y").drop_nulls("delta_low").select("y", "delta_low", "delta_high").rows()
    assert intervals(panel) == {(low, y, high, y) for y, low, high in ends}
    panel = panels(small()["conflict"])[0]
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert panel.get_title() == "tiny-gpt2\nin helpful" and names[:2] == ["all neurons", "shared"] and len(names) == 11
    low, high = panel.get_xlim()
    assert low <= -1 and high >= 1


def test_a_set_has_one_mark_in_all_panels() -> None:
    lacking = (pl.col("donor") == "harmless") & (pl.col("set") == "helpful-only")  # as where it is of another mixture
    marks: dict[float, set[tuple[str, str]]] = {}
    for ax in panels(redrawn("patching", {"patching": SMALL["patching"].filter(~lacking)})):
        for line in ax.get_lines():
            [*points] = np.asarray(line.get_xydata())
            if len(points) == 1:
                marks.setdefault(points[0][1], set()).add((str(line.get_marker()), str(line.get_color())))
    assert [*marks] == [*range(10)] and {len(several) for several in marks.values()} == {1}


def test_what_a_set_does_for_either_objective_is_marked_beside_its_controls() -> None:
    cells = {ax.get_title(): ax for ax in panels(small()["tension"])}
    assert len(cells) == 2 * 2 * 2  # models, places and values: not the mean over models
    ax = cells["tiny-llama\nown test,\nat their means"]
    names = [label.get_text() for label in panels(small()["tension"])[0].get_yticklabels()]
    keys = {"model": "tiny-llama", "tasks": "own test", "replaced_by": "mean"}
    for orientation, shift in (("helpful", -1), ("harmless", 1)):
        rows = of("tension", **keys, orientation=orientation)
        whole = rows.filter(control="whole")
        line = series(ax)[f"{orientation} tasks"]
        assert np.array_equal(line.get_xdata(), whole["delta_mean"])
        at = np.asarray(line.get_ydata(), float)
        assert [names[round(y)] for y in at] == whole["set"].to_list() and np.all((at - np.round(at)) * shift > 0)
        assert line.get_markerfacecolor() == line.get_color()
        known = rows.drop_nulls("delta_low").select("delta_low", "delta_high").rows()
        assert {(left, right) for left, _, right, _ in intervals(ax)} >= set(known)
    hollow = [line for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert sum(np.size(line.get_xdata()) for line in hollow) == len(
        of("tension", **keys).filter(pl.col("control") != "whole")
    )


GIVEN_CARD = {"models_card": SMALL["models_card"].with_columns(kind=pl.lit("given"))}


def given(name: str) -> Pages:
    """A figure where reward models are given: one regime's stand for what they do as they are."""
    single = SMALL["benchmark_accuracy"].filter(
        pl.col("regime").is_in(REGIMES[:2]) == (pl.col("benchmark") == "hh-test")
    )
    whole = {"accuracy": SMALL["accuracy"].filter(regime=REGIMES[2]), "benchmark_accuracy": single}
    return redrawn(name, GIVEN_CARD | whole)


def test_given_reward_models_stand_side_by_side() -> None:
    [ax] = panels(given("accuracy"))
    for model in ("tiny-gpt2", "tiny-llama"):
        rows = of("accuracy", model=model, regime=REGIMES[2])
        assert np.array_equal(series(ax)[model].get_xdata(), rows["accuracy_mean"])
    assert OVERALL not in series(ax)
    [ax] = panels(given("surface"))
    lines = series(ax)
    for model in ("tiny-gpt2", "tiny-llama"):
        [mean] = of("accuracy", model=model, regime=REGIMES[2], orientation="helpful", task="average")["accuracy_mean"]
        own = {
            r: of("benchmark_accuracy", model=model, regime=r, benchmark="hh-test")["accuracy_mean"] for r in REGIMES
        }
        assert near(lines[model], 8) == [mean]
        assert (near(lines[model], 1), near(lines[model], 10)) == (own["helpful"].to_list(), own["harmless"].to_list())
    assert {f"words:{regime}" for regime in REGIMES} <= lines.keys()
    assert (
        lines["words:helpful"].get_xdata().tolist()
        == series(panels(small()["surface"])[0])["words:helpful"].get_xdata().tolist()
    )


def test_given_reward_models_have_no_mean_in_figures_and_maps_of_their_own() -> None:
    pages = given("shared_ablation")
    assert [page.axes[0].get_title().strip() for page in pages] == ["tiny-gpt2", "tiny-llama"]
    for page, model in zip(pages, ("tiny-gpt2", "tiny-llama"), strict=True):
        rows = of("shared_ablation", model=model)
        shown = sorted(float(t.get_text()) for t in page.axes[0].texts if t.get_text()[0] in "+-")
        assert shown == pytest.approx(sorted(rows["delta_mean"]), abs=0.0501)
    assert not any(OVERALL in ax.get_title() for name in ("depth", "conflict") for ax in panels(given(name)))


def test_labels_of_every_figure_name_what_is_drawn(large: dict[str, Pages]) -> None:
    for figures in (small(), large):
        assert figures.keys() == FIGURES.keys()
        for name, figure in ((name, page) for name, pages in figures.items() for page in pages):
            labels = [figure.get_supxlabel(), figure.get_supylabel(), *(ax.get_ylabel() for ax in figure.axes)]
            assert any(labels) or "radar" in name or name == "claims", name
            assert figure.legends or "ablation" in name or name == "overlap", name


def test_every_text_can_be_read_on_paper_and_lies_on_its_page(large: dict[str, Pages]) -> None:
    """The report prints no figure higher than 20 cm; A4 has room for 19 cm beside each other."""
    for name, page in ((n, page) for figures in (small(), large) for n, pages in figures.items() for page in pages):
        width, height = 2.54 * page.get_size_inches()
        lay_out(page, SETTINGS.dpi)
        whole = page.get_tightbbox()
        shown = [text for text in page.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in shown) * min(1, 19 / width, 20 / height) >= 6, name
        assert min(whole.x0, whole.y0, *(page.get_size_inches() - whole.max)) > 0, name


def test_pages_hold_every_panel_and_every_row_once(large: dict[str, Pages]) -> None:
    for name in (
        "radar_by_model", "score_shift", "depth", "ablation_curve_by_model", "compression", "set_size", "patching",
        "conflict",
    ):  # fmt: skip
        titles = [ax.get_title() for ax in panels(large[name])]
        assert len(titles) == len(set(titles)) > 6, name
    for name in ("accuracy", "contrasts", "retention"):
        pages = [
            (ax.get_title(), [label.get_text() for label in page.axes[0].get_yticklabels()])
            for page in large[name]
            for ax in page.axes
        ]
        rows = [(title, row) for title, names in pages for row in names]
        assert len(rows) == len(set(rows)) == 7 * 27, name
        limits = {ax.get_xlim() for ax in panels(large[name])}
        assert len(limits) == 1, name
    cells_drawn = sum(len(cells(page.axes[0])) for page in large["own_ablation"])
    assert cells_drawn == (27 + 2 * 6) * 3 * len([*SCORINGS, "matched-random"])


def test_random_and_matched_random_are_not_taken_for_each_other(large: dict[str, Pages]) -> None:
    lines = series(panels(large["ablation_curve"])[0])
    one, other = (to_rgb(lines[name].get_color())[0] for name in ("random", "matched-random"))
    assert abs(one - other) > 0.5
    assert lines["random"].get_marker() != lines["matched-random"].get_marker()


def test_a_claim_about_all_sizes_is_curves() -> None:
    percents = [2.0, 4.0, 7.5]
    parts = crossed(
        {"where": ["helpful, own", "harmless, own"]}, {"what": ["magnitude over change", "change over random"]},
        {"percent": percents},
    )  # fmt: skip
    part = pl.format("{}, p = {} %: {}", "where", pl.col("percent").cast(pl.String).str.strip_suffix(".0"), "what")
    swept = of("claims", claim="C1").head(1).drop("part", "estimate", "verdict").join(parts, how="cross")
    swept = swept.with_columns(
        part=part, claim=pl.lit("C6"), estimate=-pl.col("percent") - pl.col("where").str.len_chars()
    )
    verdicts = pl.when(pl.col("percent") > 3).then(pl.lit("holds")).otherwise(pl.lit("undecided"))
    changed = pl.concat([SMALL["claims"], swept.with_columns(verdict=verdicts).select(SMALL["claims"].columns)])
    rows, curves = redrawn("claims", {"claims": changed})
    by_number = pl.col("part").str.replace(r"p = (\d+)(\.\d)? %", "n = ${1}")
    both = pl.concat([changed, changed.filter(claim="C6").with_columns(by_number)])
    numbers = redrawn("claims", {"claims": both})[1]
    assert [ax.get_xscale() for ax in numbers.axes] == ["symlog"] * 4 and curves.axes[0].get_xscale() == "linear"
    xs = sorted({float(x) for line in numbers.axes[2].get_lines() for x in np.asarray(line.get_xdata())})
    assert xs == [2, 4, 7] and len(redrawn("claims", {"claims": both})) == 3
    assert [ax.get_title(loc="left") for ax in rows.axes] == ["C1 (points)", "C2 (points)"]
    assert [ax.get_title() for ax in curves.axes] == [
        f"C6 (points): {where}\n{what}"
        for where in ("helpful, own", "harmless, own")
        for what in ("magnitude over change", "change over random")
    ]
    drawn = series(curves.axes[2])
    assert drawn["undecided"].get_xydata().tolist() == [[2, -15]]
    assert drawn["holds"].get_xydata().tolist() == [[4, -17], [7.5, -20.5]]


def test_names_of_tasks_do_not_overlap(large: dict[str, Pages]) -> None:
    figure = large["own_ablation"][0]
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))


def test_one_model_is_not_drawn_twice() -> None:
    one = {name: t.filter(pl.col("model") != "tiny-gpt2") if "model" in t.columns else t for name, t in SMALL.items()}
    drawn = {name: redrawn(name, one) for name in ("accuracy", "own_ablation", "ablation_curve")}
    assert [ax.get_title() for ax in panels(drawn["accuracy"])] == ["tiny-llama"]
    assert len(panels(drawn["own_ablation"])[0].get_yticklabels()) == 12
    assert len(panels(drawn["ablation_curve"])) == 3


def test_same_tables_give_the_same_bytes_and_text_stays_text(tmp_path: Path) -> None:
    for name in ("radar", "compression"):
        whole = make_figures(SMALL, SETTINGS, Analysis(), [name])  # those of small() have been laid out
        write_figure(whole[name], tmp_path / "first", SETTINGS.dpi)
        write_figure(redrawn(name), tmp_path / "second", SETTINGS.dpi)
        for form in (".pdf", ".svg", ".png"):
            assert (tmp_path / f"first{form}").read_bytes() == (tmp_path / f"second{form}").read_bytes()
        assert b"/Type3" not in (tmp_path / "first.pdf").read_bytes()


@pytest.mark.parametrize("name", ["accuracy", "retention", "repair", "own_ablation"])
def test_what_is_laid_out_once_lies_on_its_page_in_either_form(name: str, tmp_path: Path) -> None:
    pages = redrawn(name)
    write_figure(pages, tmp_path / name, SETTINGS.dpi)
    for page, dpi in product(pages, (72, SETTINGS.dpi)):  # of a pdf, of a png
        page.set_dpi(dpi)
        box, (width, height) = page.get_tightbbox(), page.get_size_inches()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > 0.02, f"inches of margin at {dpi}"


def test_long_labels_of_a_small_page_are_in_lines_that_fit() -> None:
    table = of("ablation_curve", model=OVERALL, regime="helpful")
    [page] = redrawn("ablation_curve", {"ablation_curve": table})
    lay_out(page, SETTINGS.dpi)
    box, (width, height) = page.get_tightbbox(), page.get_size_inches()
    assert "\n" in page.get_supxlabel() and page.get_supxlabel().replace("\n", " ").endswith("scale)")
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > 0


def test_every_figure_stands_without_data() -> None:
    empty = make_figures({name: table.clear() for name, table in SMALL.items()}, SETTINGS, Analysis())
    assert empty.keys() == FIGURES.keys()
    assert all("no data" in page.texts[0].get_text() for [page] in empty.values())


def test_unknown_palette_is_named() -> None:
    with pytest.raises(UserError, match=r"figures\.palette.*'colourblind'"):
        make_figures(SMALL, Figures(palette="colourblind"), Analysis())
