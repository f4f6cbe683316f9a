"""Figures of ablation: accuracy by the size and the kind of the set that is set to zero."""

from __future__ import annotations

from itertools import product

import polars as pl
from matplotlib.ticker import EngFormatter, MaxNLocator

from rmtension.base.pages import kept_together
from rmtension.report.accuracy_figures import by_chance
from rmtension.report.drawing import (
    CELL,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    ROOT,
    TASK,
    Pages,
    among,
    colour_bar,
    crossed,
    estimates,
    finished,
    fitting,
    heat_map,
    look,
    moved,
    name_width,
    number_axis,
    panels,
    parts,
    row_axis,
    row_names,
    unique,
)
from rmtension.study.naming import OVERALL

FILLS = {"whole": "full", "size-matched": "none", "matched-random": "left"}  # of the marks of a set's controls


def curves(table: pl.DataFrame, card: pl.DataFrame) -> Pages:
    """Accuracy against the share of neurons zeroed, or where sizes are counts too their number: a row per model, a
    column per regime and benchmark. Bands, or of a few sizes bars beside each other, which hide none."""
    pages, cells = crossed(table, ["regime", "benchmark"], 3.3, 2.6, sharex=True, sharey=True)
    scorings, counted = unique(table, "scoring"), table["count"].count() > 0
    size, scale = ("n_neurons", "number, logarithmic scale") if counted else ("percent", "% of all, square-root scale")
    is_coarse = table[size].n_unique() <= 6
    weighed = card.with_columns(chance=by_chance(card) * card["comparisons"]).group_by("benchmark")
    chances = weighed.agg(pl.col("chance").sum() / pl.col("comparisons").sum())
    for ax, cell in cells:
        for _, chance in chances.filter(pl.col("benchmark").is_in(cell["benchmark"].implode())).rows():
            ax.axhline(chance, color="0.3", linewidth=0.8, linestyle=(0, (1, 3)), label="chance")
        if counted:
            number_axis(ax)
        else:
            shown = [p for p in (0, 2, 5, 10, 20, 30, 50, 100) if p <= max(table["percent"])]
            ax.set_xscale("function", functions=ROOT)
            ax.set_xticks(shown, [str(p) for p in shown])
        for (scoring,), points in parts(cell, "scoring").items():
            curve = points.sort(size, maintain_order=True)
            mean, low, high = estimates(curve, "accuracy")
            shape = look(scorings, scoring)
            line = ax.plot(curve[size], mean, **shape | {"linewidth": 1.2, "markersize": 4})
            if is_coarse:
                interval = ax.vlines(curve[size], low, high, color=shape["color"], linewidth=0.8)
                moved(ax, 0.04 * (scorings.index(scoring) - (len(scorings) - 1) / 2), interval, *line)
            else:
                ax.fill_between(curve[size], low, high, color=shape["color"], alpha=0.15, linewidth=0)
    return finished(pages, f"neurons, or attention heads, set to zero ({scale})", "accuracy (%)", same="xy")


def set_name(family: str) -> pl.Expr:
    """What to call a set of neurons or its control; random sets are of the size that others are matched to."""
    control = pl.concat_str(family, pl.col("control").replace("random", "size-matched"), separator=", ")
    return pl.when(pl.col("control").is_in(["", "whole"])).then(family).otherwise(control)


def set_size(table: pl.DataFrame, curve: pl.DataFrame) -> Pages:
    """Change of accuracy against the number of neurons zeroed: oriented neurons as lines; a mixed one's sets as marks,
    filled by control, those of one size beside each other, on an axis of their own range."""
    counted = table["count"].count() > 0
    table = table.with_columns(name=set_name("family"))
    pages, cells = crossed(table, ["regime", "benchmark"], 3.3, 2.6)
    families = list(dict.fromkeys([*curve["scoring"], *table["family"]]))  # colours of scorings as in the curves
    for ax, cell in cells:
        mixed = cell.filter(pl.col("control") != "")["n_neurons"]
        if len(mixed):  # those sets are small: the panel ends where they do, and has a range of its own
            ax.set_xlim(0, 1.2 * max(1, *mixed))
            near = cell.filter(pl.col("n_neurons") <= 1.2 * max(1, *mixed))
            ends = pl.concat([near["delta_mean"], near["delta_low"], near["delta_high"]]).drop_nulls()
            ax.set_ylim(1.1 * min(-0.5, *ends), 1.1 * max(0.5, *ends))
        else:
            number_axis(ax) if counted else ax.set_xscale("function", functions=ROOT)
            ax.set_xlim(0, 1.05 * max(cell["n_neurons"]))
        if len(mixed) or not counted:
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.axhline(0, color="0.3", linewidth=1)
        sized = unique(cell.filter(~pl.col("control").is_in(["", "whole"])), "name")
        for (family, control, name), of_set in parts(cell, "family", "control", "name").items():
            points = of_set.sort("n_neurons", maintain_order=True)
            mark = {
                "linestyle": "none",
                "fillstyle": FILLS.get(control, "full"),
                "markeredgecolor": "0.15",
                "zorder": 3,
            }
            line = {"linewidth": 1, "markersize": 4}
            shape = look(families, family) | ({**mark, "markersize": 7, "label": name} if control else line)
            aside = 0.13 * (sized.index(name) - (len(sized) - 1) / 2) if name in sized else 0
            y, low, high = estimates(points, "delta")
            interval = ax.vlines(points["n_neurons"], low, high, color=shape["color"], linewidth=0.8)
            moved(ax, aside, interval, *ax.plot(points["n_neurons"], y, **shape))
    scale = "logarithmic" if counted else "square-root"
    label = f"neurons set to zero (number; {scale} scale where there are no sets of a mixed reward model)"
    return finished(pages, label, "change in accuracy (points)")


def change_map(table: pl.DataFrame) -> Pages:
    """Change of accuracy of each task over all models, and of each model's averages (down), in each regime under
    each ablation (across; by zeros unless it says by means); bold where the interval leaves 0 out. Without rows of all
    models, of each model's tasks by themselves."""
    each = parts(table, "model")
    if (OVERALL,) not in each:
        return [page for (model,), of in each.items() for page in maps(of, f"{model}\n" if len(each) > 1 else "")]
    task = pl.concat_str("model", pl.lit(": mean of "), "orientation", pl.lit(" tasks"))
    averages = table.filter(pl.col("model") != OVERALL, pl.col("task") == "average")
    return maps(
        pl.concat([table.filter(model=OVERALL), averages.with_columns(orientation=pl.lit("by model"), task=task)])
    )


def maps(table: pl.DataFrame, title: str = "") -> Pages:
    """A row for each task, a column for each regime and ablation; the title stands above each page's map."""
    name = set_name("ablation") if "control" in table.columns else pl.col("scoring")
    by_mean = pl.col("replaced_by") == "mean"
    table = table.with_columns(name=pl.when(by_mean).then(pl.format("{}, by means", name)).otherwise(name))
    rows, columns, across = unique(table, *TASK), unique(table, "regime", "name"), ["regime", "name"]
    beside, above = name_width(row_names(rows)), name_width([name for _, name in columns])
    limit, pages = max(1.0, *map(abs, table["delta_mean"].drop_nulls())), []
    for some_columns, some_rows in product(
        kept_together(columns, fitting(PAGE_WIDTH - beside - 1.2, CELL)),
        kept_together(rows, fitting(PAGE_HEIGHT - above - 0.6, 0.22)),
    ):
        size = (beside + CELL * len(some_columns) + 1.2, above + 0.22 * len(some_rows) + 0.6)
        figure, (ax,) = panels(1, 1, *size)
        colours = {"cmap": "RdBu", "vmin": -limit, "vmax": limit, "fmt": "+z.1f"}
        part = among(among(table, TASK, some_rows), across, some_columns)
        written = heat_map(ax, part, TASK, across, "delta_mean", **colours)
        clear = written.select((pl.col("delta_low") > 0) | (pl.col("delta_high") < 0)).to_series()
        for text, bold in zip(ax.texts, clear, strict=True):
            text.set_fontweight("bold" if bold else "normal")
        row_axis(ax, some_rows, 0.5)
        regimes = [regime for regime, _ in some_columns]
        for regime in dict.fromkeys(regimes):
            ax.text(regimes.index(regime) + regimes.count(regime) / 2, -0.2, regime, ha="center")
            ax.axvline(regimes.index(regime), color="0.3", linewidth=1)
        ax.set_title(title)
        pages.append(colour_bar(figure, [ax], "change in accuracy (points)\nbold: interval without 0"))
    return pages
