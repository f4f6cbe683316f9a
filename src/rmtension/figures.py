"""The study's figures, each drawn from the table of the same name and the study's figure settings alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rmtension import study
from rmtension.errors import UserError
from rmtension.files import replacing

# Series differ in marker, line and hatch too, so that they can be told apart in grey.
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
LINES = ["-", "--", ":", "-."]
HATCHES = ["", "///", "...", "xx"]


def style(settings: study.Figures) -> Any:
    """Matplotlib settings shared by all figures."""
    try:
        colours = sns.color_palette(settings.palette, len(MARKERS)).as_hex()
    except ValueError:
        raise UserError(f"figures.palette: seaborn knows no palette '{settings.palette}'") from None
    size = settings.font_size
    return {
        **sns.axes_style("whitegrid", {"axes.edgecolor": "0.3", "grid.color": "0.9"}),
        **dict.fromkeys(["font.size", "axes.titlesize", "axes.labelsize", "figure.titlesize"], size),
        **dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize"], size * 0.9),
        "axes.prop_cycle": cycler(color=colours),
        "font.sans-serif": ["DejaVu Sans"],
        "legend.frameon": False,
    }


def make_figures(tables: Mapping[str, pl.DataFrame], settings: study.Figures) -> dict[str, Figure]:
    """Every figure, by name. A figure without data says so."""
    with mpl.rc_context(style(settings)):
        return {name: draw(tables[name]) if len(tables[name]) else no_data() for name, draw in FIGURES.items()}


def write_figure(figure: Figure, path: Path, dpi: int) -> None:
    """`path`.pdf and `path`.png, without dates or versions: the same figure gives the same bytes."""
    # Type 42 keeps the text of a pdf as text.
    with mpl.rc_context({"pdf.fonttype": 42}):
        for form, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
            with replacing(path.with_name(f"{path.name}.{form}")) as temporary:
                figure.savefig(temporary, format=form, dpi=dpi, metadata=metadata)


def no_data() -> Figure:
    figure = Figure(figsize=(4, 1))
    figure.text(0.5, 0.5, "This study has no data for this figure.", ha="center", va="center")
    return figure


def panels(rows: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of panels of the given size in inches, and its panels row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def parts(table: pl.DataFrame, *by: str) -> dict[tuple[Any, ...], pl.DataFrame]:
    """The table's rows for each combination of the columns `by`, in its order."""
    return table.partition_by(by, as_dict=True, maintain_order=True)


def colour(series: int) -> str:
    """The palette's colour of a series; "C0" itself would be looked up after the style has gone."""
    return to_hex(f"C{series}")


def legend(figure: Figure, axes: Axes) -> None:
    """One legend above all panels, of the series in one of them, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    fitting = int(figure.get_figwidth() / (0.6 + 0.075 * max(map(len, labels))))
    figure.legend(handles, labels, loc="outside upper center", ncols=max(1, fitting))


def ablation_curve(table: pl.DataFrame) -> Figure:
    """Accuracy against the share of neurons zeroed: a row per model, a column per regime and benchmark."""
    models, columns = table["model"].unique(maintain_order=True), parts(table, "regime", "benchmark")
    size = (2.6 * len(columns) + 0.6, 2.1 * len(models) + 0.7)
    figure, axes = panels(len(models), len(columns), *size, sharex=True, sharey=True)
    cells = [(model, *column) for model in models for column in columns]
    by_cell = parts(table, "model", "regime", "benchmark")
    for ax, (model, regime, benchmark) in zip(axes, cells, strict=True):
        ax.set_title(f"{model}\n{regime} on {benchmark}")
        ax.axhline(50, color="0.3", linewidth=0.8, linestyle=(0, (1, 3)), label="chance")
        # The square root gives the small shares, where most happens, room of their own.
        ax.set_xscale("function", functions=(signed_root, signed_square))
        shown = [p for p in (0, 2, 5, 10, 20, 30, 50, 100) if p <= max(table["percent"].to_list())]
        ax.set_xticks(shown, [str(p) for p in shown])
        curves = parts(by_cell.get((model, regime, benchmark), table.clear()), "scoring")
        for i, ((scoring,), curve) in enumerate(curves.items()):
            x, mean, sd = (curve[c].to_numpy() for c in ("percent", "accuracy_mean", "accuracy_sd"))
            ax.fill_between(x, mean - sd, mean + sd, color=colour(i), alpha=0.2, linewidth=0)
            line: dict[str, Any] = {"marker": MARKERS[i], "linestyle": LINES[i % 4], "markersize": 4}
            ax.plot(x, mean, color=colour(i), label=scoring, **line)
    figure.supxlabel("neurons set to zero (% of all, square-root scale)")
    figure.supylabel("accuracy (%)")
    legend(figure, axes[0])
    return figure


def signed_root(percent: Any) -> Any:
    return np.sign(percent) * np.abs(percent) ** 0.5


def signed_square(root: Any) -> Any:
    return np.sign(root) * root**2


def depth(table: pl.DataFrame) -> Figure:
    """Share of the oriented neurons in each third of the layers; ticks: that share for random neurons."""
    scorings = [s for s in table["scoring"].unique(maintain_order=True) if s != "random"] or ["random"]
    models = table["model"].unique(maintain_order=True)
    regimes = table["regime"].unique(maintain_order=True).to_list()
    size = ((0.9 * len(regimes) + 0.4) * len(models) + 1.2, 2.2 * len(scorings) + 0.8)
    figure, axes = panels(len(scorings), len(models), *size, sharex=True, sharey=True)
    cells = [(model, scoring) for scoring in scorings for model in models]
    by_cell = parts(table, "model", "scoring", "third")
    for ax, (model, scoring) in zip(axes, cells, strict=True):
        ax.set_title(f"{model}\ntop neurons by {scoring}")
        for i, third in enumerate(("early", "middle", "late")):
            bars = by_cell.get((model, scoring, third), table.clear())
            x = [regimes.index(regime) + 0.27 * (i - 1) for regime in bars["regime"]]
            look: dict[str, Any] = {
                "color": colour(i),
                "hatch": HATCHES[i],
                "edgecolor": "white",
                "ecolor": "0.2",
            }
            ax.bar(x, bars["share_mean"], 0.26, yerr=bars["share_sd"], label=f"{third} third", **look)
            control = by_cell.get((model, "random", third), table.clear())
            x = [regimes.index(regime) + 0.27 * (i - 1) for regime in control["regime"]]
            ax.plot(x, control["share_mean"], "_k", markersize=11, label="random neurons" if i == 2 else None)
        ax.set_xticks(range(len(regimes)), [regime.replace("-", "-\n") for regime in regimes])
        ax.grid(False, axis="x")
    figure.supylabel("share of the oriented neurons (%)")
    legend(figure, axes[0])
    return figure


def task_axis(ax: Axes, tasks: list[tuple[str, str]], first: float) -> None:
    """Tasks down the y axis from `first` on, each orientation's average in bold and followed by a line."""
    ax.set_yticks(
        [first + i for i in range(len(tasks))],
        [f"mean of {o} tasks" if task == "average" else task for o, task in tasks],
    )
    ax.set_ylim(first + len(tasks) - 0.5, first - 0.5)
    for i, (tick, (_, task)) in enumerate(zip(ax.yaxis.get_major_ticks(len(tasks)), tasks, strict=True)):
        if task == "average":
            tick.label1.set_fontweight("bold")
            ax.axhline(first + i + 0.5, color="0.3", linewidth=1)


def task_panels(table: pl.DataFrame, series: int, width: float) -> tuple[Figure, list[Axes], list[Any]]:
    """A panel per model, at most three beside each other, with the tasks as their y axis; the tasks."""
    tasks, n_models = (
        table.select("orientation", "task").unique(maintain_order=True).rows(),
        table["model"].n_unique(),
    )
    columns = min(n_models, 3)
    rows = -(-n_models // columns)
    names = 0.075 * max(len(task) for _, task in [*tasks, ("", "mean of harmless tasks")])
    height = rows * ((0.1 + 0.06 * series) * len(tasks) + 1.2) + 0.6
    figure, axes = panels(rows, columns, names + width * columns + 0.4, height, sharey=True)
    for ax in axes[n_models:]:
        ax.remove()
    return figure, axes[:n_models], tasks


def dots(table: pl.DataFrame, value: str, series: str, label: str) -> Figure:
    """`value` of each task as one dot per series, with the standard deviation over seeds as a bar."""
    names = table[series].unique(maintain_order=True).to_list()
    figure, axes, tasks = task_panels(table, len(names), 3)
    for ax, ((model,), of_model) in zip(axes, parts(table, "model").items(), strict=True):
        task_axis(ax, tasks, 0)
        ax.set_title(model)
        ax.set_xlabel(label)
        ax.grid(axis="x")
        for i, name in enumerate(names):
            points = of_model.filter(pl.col(series) == name)
            shift = 0.6 * ((i + 0.5) / len(names) - 0.5)
            y = [tasks.index(task) + shift for task in points.select("orientation", "task").iter_rows()]
            x, sd = points[f"{value}_mean"], points[f"{value}_sd"]
            ax.errorbar(x, y, xerr=sd, fmt=MARKERS[i], color=colour(i), label=name, markersize=4.5, elinewidth=1)
    legend(figure, axes[0])
    return figure


def accuracy(table: pl.DataFrame) -> Figure:
    """Accuracy of each regime on each task."""
    return dots(table, "accuracy", "regime", "accuracy (%)")


def retention(table: pl.DataFrame) -> Figure:
    """Retention of each task in the mixed reward model, whole and with sets of neurons zeroed."""
    one = table["regime"].n_unique() == 1
    names = pl.col("ablation").replace("none", "no ablation")
    series = names if one else pl.format("{}, {}", "regime", names)
    return dots(table.with_columns(series=series), "retention", "series", "retention (fraction kept)")


def change_map(table: pl.DataFrame, ablation: str) -> Figure:
    """Change of accuracy of each task (down) in each regime under each ablation (across)."""
    heads = table.select("regime", ablation).unique(maintain_order=True).rows()
    figure, axes, tasks = task_panels(table, 2, 0.5 * len(heads) + 0.3)
    limit = max(1.0, *map(abs, table["delta_mean"].drop_nulls()))
    for ax, ((model,), of_model) in zip(axes, parts(table, "model").items(), strict=True):
        grid = np.full((len(tasks), len(heads)), np.nan)
        for o, task, *head, delta in of_model.select(
            "orientation", "task", "regime", ablation, "delta_mean"
        ).iter_rows():
            grid[tasks.index((o, task)), heads.index(tuple(head))] = delta
        look = {
            "cmap": "RdBu",
            "vmin": -limit,
            "vmax": limit,
            "linewidths": 0.5,
            "annot_kws": {"size": "small"},
        }
        sns.heatmap(grid, ax=ax, annot=True, fmt="+z.1f", cbar=False, yticklabels=False, **look)
        task_axis(ax, tasks, 0.5)
        ax.set_title(model)
        ax.set_xticks([i + 0.5 for i in range(len(heads))], [name for _, name in heads], rotation=90)
        regimes = [regime for regime, _ in heads]
        centres = {r: regimes.index(r) + regimes.count(r) / 2 for r in regimes}
        top = ax.secondary_xaxis("top")
        top.set_xticks(list(centres.values()), [r.replace("-", "-\n") for r in centres])
        top.tick_params(length=0)
        top.spines["top"].set_visible(False)
        for regime in list(centres)[1:]:
            ax.axvline(regimes.index(regime), color="0.3", linewidth=1)
    figure.colorbar(axes[0].collections[0], ax=axes, label="change in accuracy (points)", shrink=0.6)
    return figure


def own_ablation(table: pl.DataFrame) -> Figure:
    """Change of accuracy when a reward model loses its own top neurons by each scoring."""
    return change_map(table, "scoring")


def shared_ablation(table: pl.DataFrame) -> Figure:
    """Change of accuracy when the mixed reward model loses shared or exclusive neurons of its parts."""
    return change_map(table, "ablation")


FIGURES: dict[str, Callable[[pl.DataFrame], Figure]] = {
    "accuracy": accuracy,
    "retention": retention,
    "ablation_curve": ablation_curve,
    "own_ablation": own_ablation,
    "shared_ablation": shared_ablation,
    "depth": depth,
}
