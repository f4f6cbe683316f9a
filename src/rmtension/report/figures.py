"""The study's figures, each drawn from the tables that FIGURES names beside it and the study's settings alone.

`{x}_mean` is drawn as a mark, bar, line or cell and `{x}_low` to `{x}_high` as its interval, where there is one.
A figure is a list of pages, none larger than can be printed with text that is read.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.special import comb

from rmtension.base.errors import UserError
from rmtension.base.files import replacing
from rmtension.base.pages import HEIGHTS, evenly, kept_together
from rmtension.study.naming import OVERALL
from rmtension.study.stages import Analysis, Figures

Tables = Mapping[str, pl.DataFrame]
Pages = list[Figure]
# Most inches of a page. On paper it becomes 19 cm by 20 cm, and the smallest text, "small", seven tenths of its size.
PAGE_WIDTH, PAGE_HEIGHT = 8.8, 9.3
TASK, AVERAGE = ["orientation", "task"], ("average",)
# The square root gives small sets of neurons, where most happens, room of their own.
ROOT = (lambda size: np.sign(size) * np.abs(size) ** 0.5, lambda root: np.sign(root) * root**2)
# Series differ in marker, line and hatch too, so that they can be told apart in grey.
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p", "d", "H"]
LINES = ["-", "--", ":", "-."]
HATCHES = ["", "///", "..."]
CELL = 0.42  # inches: width of a cell of a map
# Of random controls: so far apart that nobody takes one for the other.
GREYS = {"random": "0.6", "matched-random": "0", "head-random": "0.35"}
FILLS = {"whole": "full", "size-matched": "none", "matched-random": "left"}  # of the marks of a set's controls


def style(settings: Figures) -> Any:
    """Matplotlib settings shared by all figures."""
    try:
        colours = sns.color_palette(settings.palette, len(MARKERS)).as_hex()
    except ValueError:
        raise UserError(f"figures.palette: seaborn knows no palette '{settings.palette}'") from None
    size = settings.font_size
    return {
        **sns.axes_style("whitegrid", {"axes.edgecolor": "0.3", "grid.color": "0.9"}),
        **dict.fromkeys(["font.size", "axes.titlesize", "axes.labelsize", "figure.labelsize"], size),
        **dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize"], size * 0.9),
        "axes.prop_cycle": cycler(color=colours),
        "font.sans-serif": ["DejaVu Sans"],
        "legend.frameon": False,
        "hatch.linewidth": 0.6,
    }


def make_figures(tables: Tables, settings: Figures, analysis: Analysis) -> dict[str, Pages]:
    """The pages of every figure, by name, of what the study's analysis selects. A figure without data says so."""
    with mpl.rc_context(style(settings)):
        chosen = {name: selected(table, analysis) for name, table in tables.items()}
        return {name: spec.pages(chosen) for name, spec in FIGURES.items()}


def selected(table: pl.DataFrame, analysis: Analysis) -> pl.DataFrame:
    """The rows of the study's selection of neurons; in the card of benchmarks, what the study compares."""
    if "selection" in table.columns:
        return table.filter(selection=analysis.selection)
    if analysis.rm_bench == "same-style" and {"kind", "rejected"} <= {*table.columns}:
        pairs = pl.when(pl.col("kind") == "rm-bench").then(pl.lit("1"))
        return table.with_columns(pairs.otherwise(side).alias(side) for side in ("chosen", "rejected"))
    return table


def write_figure(pages: Pages, path: Path, dpi: int) -> None:
    """`path`.pdf and `path`.png, without dates or versions: the same figure gives the same bytes.

    The png has the pages below one another, and as a text HEIGHTS their heights.
    """
    # Type 42 keeps the text of a pdf as text.
    with (
        mpl.rc_context({"pdf.fonttype": 42}),
        replacing(path.with_name(f"{path.name}.pdf")) as temporary,
        PdfPages(temporary, metadata={"CreationDate": None}) as pdf,
    ):
        for page in pages:
            pdf.savefig(page)
    images = [drawn(page, dpi) for page in pages]
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    for i, image in enumerate(images):
        whole.paste(image, (0, sum(above.height for above in images[:i])))
    told = PngInfo()
    told.add_text(HEIGHTS, " ".join(str(image.height) for image in images))
    with replacing(path.with_name(f"{path.name}.png")) as temporary:
        whole.save(temporary, format="png", dpi=(dpi, dpi), pnginfo=told)


def drawn(page: Figure, dpi: int) -> Image.Image:
    with BytesIO() as file:
        page.savefig(file, format="png", dpi=dpi)
        return Image.open(file).convert("RGB")


# --- parts of figures -----------------------------------------------------------------------------------------


def no_data() -> Pages:
    figure = Figure(figsize=(4, 1))
    figure.text(0.5, 0.5, "This study has no data for this figure.", ha="center", va="center")
    return [figure]


def panels(rows: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A page of that size in inches, and its panels row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def fitting(room: float, size: float) -> int:
    """How many things of a size have room beside each other; one always has."""
    return max(1, int(room / size))


def wrapped(n: int, columns: int, names: float, width: float, height: float) -> tuple[Pages, list[Axes]]:
    """n panels of that size or a little narrower, at most so many beside each other, with room for the y axis' names
    left of them; and the pages that they are on."""
    room = PAGE_WIDTH - names - 0.4
    columns = min(n, columns, fitting(room, 0.7 * width))
    width, pages, panels_ = min(width, room / columns), [], []
    for on_page in evenly([*range(n)], columns * fitting(PAGE_HEIGHT - 1.2, height)):
        rows, here = ceil(len(on_page) / columns), min(columns, len(on_page))
        size = (names + width * here + 0.4, rows * height + 0.6)
        figure, axes = panels(rows, here, *size, sharex=True, sharey=True)
        for ax in axes[len(on_page) :]:
            ax.remove()
        for ax in axes[len(on_page) - here : len(on_page)]:  # not all of the lowest row, where names would stand alone
            ax.tick_params(labelbottom=True)
        pages.append(figure)
        panels_ += axes[: len(on_page)]
    return pages, panels_


def crossed(
    table: pl.DataFrame, across: Sequence[str], width: float, height: float, down: str = "model", **shared: Any
) -> tuple[Pages, list[tuple[Axes, pl.DataFrame]]]:
    """A titled panel, and its rows of the table, for each value of `down` and each combination of `across`; and the
    pages that they are on, where they may be a little narrower than `width`."""
    rows, columns, cells = list(parts(table, down)), list(parts(table, *across)), parts(table, down, *across)
    room, pages, found = PAGE_WIDTH - 0.6, [], []
    for beside, below in product(
        evenly(columns, fitting(room, 0.7 * width)), evenly(rows, fitting(PAGE_HEIGHT - 1.2, height))
    ):
        size = (min(width, room / len(beside)) * len(beside) + 0.6, height * len(below) + 0.7)
        figure, axes = panels(len(below), len(beside), *size, **shared)
        for ax, (row, column) in zip(axes, product(below, beside), strict=True):
            ax.set_title("\n".join([*row, ", ".join(filter(None, column))]))
            found.append((ax, cells.get((*row, *column), table.clear())))
        pages.append(figure)
    return pages, found


def finished(pages: Pages, x: str = "", y: str = "", same: str = "") -> Pages:
    """With labels, and above all panels of each page one legend of the series in any of them, in as many columns as
    fit. same: the axes, "x" and "y", that have one range on all pages."""
    axes = [ax for page in pages for ax in page.axes]
    for name in same:
        low, high = zip(*(getattr(ax, f"get_{name}lim")() for ax in axes), strict=True)
        for ax in axes:
            getattr(ax, f"set_{name}lim")(min(low), max(high))
    series: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        series |= dict(zip(labels, handles, strict=True))
    for page in pages:
        page.supxlabel(x)
        page.supylabel(y)
        columns = fitting(page.get_figwidth(), 0.6 + name_width([*series]))
        page.legend(series.values(), [*series], loc="outside upper center", ncols=columns)
    return pages


def parts(table: pl.DataFrame, *by: str) -> dict[tuple[Any, ...], pl.DataFrame]:
    """The table's rows for each combination of the columns `by`, in its order."""
    return table.partition_by(by, as_dict=True, maintain_order=True)


def unique(table: pl.DataFrame, *columns: str) -> list[Any]:
    """The words of a column, or the combinations of several, in the table's order."""
    rows = table.select(columns).unique(maintain_order=True).rows()
    return rows if len(columns) > 1 else [word for (word,) in rows]


def numbers(table: pl.DataFrame, *columns: str) -> list[Any]:
    """Columns as floats; nulls become NaN, which is not drawn."""
    return [table[column].cast(pl.Float64).to_numpy() for column in columns]


def estimates(table: pl.DataFrame, value: str) -> list[Any]:
    return numbers(table, f"{value}_mean", f"{value}_low", f"{value}_high")


def colour(series: int) -> str:
    """The palette's colour of a series; "C0" itself would be looked up after the style has gone."""
    return to_hex(f"C{series % 10}")


def look(names: Sequence[str], name: str) -> dict[str, Any]:
    """What sets one of `names` apart; random controls are of different greys, and hollow."""
    i = names.index(name)
    marks = {"label": name, "marker": MARKERS[i % len(MARKERS)], "linestyle": LINES[i % len(LINES)], "markersize": 4.5}
    return marks | ({"color": GREYS[name], "markerfacecolor": "white"} if name in GREYS else {"color": colour(i)})


def row_names(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """What to write beside rows that are (orientation, task) or one word."""
    return [f"mean of {row[0]} tasks" if row[1:] == AVERAGE else row[-1] for row in rows]


def name_width(names: Sequence[str]) -> float:
    """Inches."""
    return 0.075 * max(map(len, names))


def row_axis(ax: Axes, rows: Sequence[tuple[str, ...]], first: float) -> None:
    """Rows down the y axis from `first` on, each orientation's average in bold and followed by a line."""
    ax.set_yticks([first + i for i in range(len(rows))], row_names(rows), rotation=0)
    ax.set_ylim(first + len(rows) - 0.5, first - 0.5)
    for i, (tick, row) in enumerate(zip(ax.yaxis.get_major_ticks(len(rows)), rows, strict=True)):
        if row[1:] == AVERAGE:
            tick.label1.set_fontweight("bold")
            ax.axhline(first + i + 0.5, color="0.3", linewidth=1)


def dots(table: pl.DataFrame, value: str, series: str, label: str, by: Sequence[str] = TASK, tick: str = "") -> Pages:
    """`value` of each row `by` as one dot per series with its interval, and a tick where its `tick` is; a panel per
    model."""
    names, models, pages = unique(table, series), parts(table, "model"), list[Figure]()
    height, all_rows = 0.1 + 0.06 * len(names), table.select(by).unique(maintain_order=True).rows()
    for rows in kept_together(all_rows, fitting(PAGE_HEIGHT - 1.7, height)):
        size = (name_width(row_names(all_rows)), 2.6, height * len(rows) + 1)
        on_pages, axes = wrapped(len(models), 4, *size)
        pages += on_pages
        for ax, ((model,), of_model) in zip(axes, models.items(), strict=True):
            row_axis(ax, rows, 0)
            ax.set_title(model)
            ax.grid(axis="x")
            for i, name in enumerate(names):
                points, shape = among(of_model, by, rows).filter(pl.col(series) == name), look(names, name)
                aside = 0.6 * ((i + 0.5) / len(names) - 0.5)
                y = np.array([rows.index(row) for row in points.select(by).rows()]) + aside
                x, low, high = estimates(points, value)
                ax.hlines(y, low, high, color=shape["color"], linewidth=1)
                ax.plot(x, y, **shape | {"linestyle": "none"})
                if tick:
                    ax.plot(points[tick], y, "|k", label=tick if name == names[-1] else None)
    return finished(pages, label, same="x")


def among(table: pl.DataFrame, by: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """The table's rows with those words in the columns `by`."""
    words = pl.DataFrame(rows, schema={key: table.schema[key] for key in by}, orient="row")
    return table.join(words, on=by, how="semi", maintain_order="left")


def heat_map(ax: Axes, table: pl.DataFrame, down: list[str], across: list[str], value: str, **looks: Any) -> Any:
    """Draws the value's map; returns the rows of the table behind those cells that hold a number, in their order."""
    rows, columns = (table.select(keys).unique(maintain_order=True) for keys in (down, across))
    cells = rows.join(columns, how="cross").join(table, on=[*down, *across], how="left", maintain_order="left")
    grid = numbers(cells, value)[0].reshape(len(rows), len(columns))
    look = {"linewidths": 0.5, "cbar": False, "annot": True, "annot_kws": {"size": "small"}, "yticklabels": False}
    sns.heatmap(grid, ax=ax, **look | looks)
    ax.set_xticks([i + 0.5 for i in range(len(columns))], columns.to_series(-1).to_list(), rotation=90)
    return cells.drop_nulls(value)


def colour_bar(figure: Figure, axes: Sequence[Axes], label: str) -> Figure:
    figure.colorbar(axes[0].collections[0], ax=axes, label=label, fraction=0.03, aspect=30, pad=0.01)
    return figure


# --- figures --------------------------------------------------------------------------------------------------


def with_chance(table: pl.DataFrame, card: pl.DataFrame) -> pl.DataFrame:
    """Adds `chance`, the accuracy in percent of random scores: of c chosen and r rejected responses all c are on top in
    one of binomial(c + r, c) orders. Tasks of which the card has no one number count as pairs."""
    chosen, rejected = (card[side].cast(pl.Float64, strict=False).fill_null(1) for side in ("chosen", "rejected"))
    chances = card.select("task", chance=pl.Series(100 / comb(chosen + rejected, chosen)))
    chances = chances.group_by("task", maintain_order=True).mean()
    joined = table.join(chances, on="task", how="left", maintain_order="left")
    is_task, chance = pl.col("task") != "average", pl.col("chance").fill_null(50.0)
    mean = chance.filter(is_task).mean().over("orientation")
    return joined.with_columns(chance=pl.when(is_task).then(chance).otherwise(mean))


def radar(table: pl.DataFrame, card: pl.DataFrame) -> Pages:
    """Accuracy on each task: polar panels by model and orientation, a line per regime; dots where tasks are few."""
    table = with_chance(table.filter(pl.col("task") != "average"), card)
    if min(len(unique(part, "task")) for part in parts(table, "orientation").values()) < 3:
        return dots(table, "accuracy", "regime", "accuracy (%)", tick="chance")
    many = table["task"].n_unique() > 10  # names that would not fit beside each other run along the radius
    size = (4.1, 4)
    pages, cells = crossed(table, ["orientation"], *size, subplot_kw={"projection": "polar"})
    regimes = unique(table, "regime")
    for ax, cell in cells:
        tasks = unique(cell, "task")
        angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
        for (regime,), line in parts(cell, "regime").items():
            closed = pl.concat([line, line.head(1)])
            angle = angles[[tasks.index(task) for task in closed["task"]]]
            mean, low, high = estimates(closed, "accuracy")
            shape = look(regimes, regime)
            ax.fill_between(angle, low, high, color=shape["color"], alpha=0.12, linewidth=0)
            ax.plot(angle, mean, **shape)
        ax.plot(angle, closed["chance"], color="0.3", linewidth=1, linestyle=(0, (1, 2)), label="chance")
        ax.set(theta_offset=np.pi / 2, theta_direction=-1, rlabel_position=180 / len(tasks), ylim=(0, 100))
        ax.set_yticks([25, 50, 75], ["25 %", "50 %", "75 %"], color="0.3", size="small")
        ax.set_xticks(angles, [])
        ax.set_title(ax.get_title(), pad=62 if many else 30)
        for task, angle in zip(tasks, angles, strict=True):
            side = np.sin(angle).round(1)
            turned = 90 - np.degrees(angle) + (180 if side < 0 else 0) if many else 0
            place: dict[str, Any] = {"rotation": turned, "rotation_mode": "anchor", "va": "center", "size": "small"}
            name = ax.text(angle, 112, textwrap.fill(task, 14), **place)
            name.set_horizontalalignment("right" if side < 0 else "left" if side > 0 or many else "center")
    return finished(pages)


def accuracy(table: pl.DataFrame, card: pl.DataFrame) -> Pages:
    """Accuracy of each regime on each task."""
    return dots(with_chance(table, card), "accuracy", "regime", "accuracy (%)", tick="chance")


def contrasts(table: pl.DataFrame) -> Pages:
    """Difference in accuracy between two regimes on each task."""
    table = table.with_columns(
        pl.lit(0).alias("no difference"), pair=pl.concat_str("first", pl.lit(" minus "), "second")
    )
    return dots(table, "difference", "pair", "difference in accuracy (points)", tick="no difference")


def retention(table: pl.DataFrame) -> Pages:
    """Retention of each task in the mixed reward model, whole and with sets of neurons zeroed."""
    names = pl.col("ablation").replace("none", "no ablation")
    series = names if table["regime"].n_unique() == 1 else pl.concat_str("regime", names, separator=", ")
    return dots(table.with_columns(series=series), "retention", "series", "retention (fraction kept)")


def histograms(table: pl.DataFrame, order: pl.DataFrame) -> Pages:
    """Rewards in two states, one filled and one hatched, of chosen responses upwards and rejected ones downwards."""
    keys = [key for key in ("model", "regime", "single") if key in order.columns]
    in_order = order.select(keys).unique(maintain_order=True).join(table, on=keys, maintain_order="left_right")
    table = in_order.sort(pl.col("state").is_in(["mixed", "after"]), maintain_order=True)
    pages, cells = crossed(table, ["regime", "single"], 2.9, 1.9, sharex=True, sharey="row")
    states = unique(table, "state")
    filled: dict[str, Any] = {"fill": True, "color": colour(0), "alpha": 0.45, "linewidth": 0}
    hatched: dict[str, Any] = {"fill": False, "edgecolor": "0.15", "hatch": "////"}
    lines: list[dict[str, Any]] = [{"color": colour(0), "linestyle": "-"}, {"color": "0.15", "linestyle": "--"}]
    for ax, cell in cells:
        for (state, response), bins in parts(cell, "state", "response").items():
            i, sign = states.index(state), 1 if response == "chosen" else -1
            labels = [state, f"mean, {state}"] if response == "chosen" else ["", ""]
            left, right, share = numbers(bins, "left", "right", "share")
            ax.stairs(sign * 100 * share, [*left, right[-1]], label=labels[0], **[filled, hatched][i])
            mean, end = np.average((left + right) / 2, weights=share), 115 * sign * share.max()
            ax.vlines(mean, 0, end, label=labels[1], **lines[i])
        ax.axhline(0, color="0.3", linewidth=0.8)
        ax.yaxis.set_major_formatter(lambda y, _: f"{abs(y):g}")
    return finished(pages, "reward", "scores in a bin (%): chosen up, rejected down", same="x")


def curves(table: pl.DataFrame) -> Pages:
    """Accuracy against the share of neurons zeroed: a row per model, a column per regime and benchmark."""
    pages, cells = crossed(table, ["regime", "benchmark"], 3.3, 2.6, sharex=True, sharey=True)
    scorings = unique(table, "scoring")
    shown = [p for p in (0, 2, 5, 10, 20, 30, 50, 100) if p <= max(table["percent"])]
    for ax, cell in cells:
        ax.axhline(50, color="0.3", linewidth=0.8, linestyle=(0, (1, 3)), label="chance")
        ax.set_xscale("function", functions=ROOT)
        ax.set_xticks(shown, [str(p) for p in shown])
        for (scoring,), curve in parts(cell, "scoring").items():
            mean, low, high = estimates(curve, "accuracy")
            shape = look(scorings, scoring)
            ax.fill_between(curve["percent"], low, high, color=shape["color"], alpha=0.15, linewidth=0)
            ax.plot(curve["percent"], mean, **shape | {"linewidth": 1.2, "markersize": 4})
    label = "neurons, or attention heads, set to zero (% of all, square-root scale)"
    return finished(pages, label, "accuracy (%)", same="xy")


def set_name(family: str) -> pl.Expr:
    """What to call a set of neurons or its control; random sets are of the size that others are matched to."""
    control = pl.concat_str(family, pl.col("control").replace("random", "size-matched"), separator=", ")
    return pl.when(pl.col("control").is_in(["", "whole"])).then(family).otherwise(control)


def set_size(table: pl.DataFrame, curve: pl.DataFrame) -> Pages:
    """Change of accuracy against the number of neurons zeroed: oriented neurons as lines; a mixed one's sets as marks,
    filled by control, those of one size beside each other, on an axis of their own range."""
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
            ax.set_xscale("function", functions=ROOT)
            ax.set_xlim(0, 1.05 * max(cell["n_neurons"]))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.axhline(0, color="0.3", linewidth=1)
        sized = unique(cell.filter(~pl.col("control").is_in(["", "whole"])), "name")
        for (family, control, name), points in parts(cell, "family", "control", "name").items():
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
            bars = ax.vlines(points["n_neurons"], low, high, color=shape["color"], linewidth=0.8)
            for artist in (bars, *ax.plot(points["n_neurons"], y, **shape)):
                artist.set_transform(ax.transData + ScaledTranslation(aside, 0, ax.figure.dpi_scale_trans))
    label = "neurons set to zero (number; square-root scale where there are no sets of a mixed reward model)"
    return finished(pages, label, "change in accuracy (points)")


def change_map(table: pl.DataFrame) -> Pages:
    """Change of accuracy of each task over all models, and of each model's averages (down), in each regime under
    each ablation (across); bold where the interval leaves 0 out."""
    task = pl.concat_str("model", pl.lit(": mean of "), "orientation", pl.lit(" tasks"))
    each = table.filter(pl.col("model") != OVERALL, pl.col("task") == "average")
    table = pl.concat([table.filter(model=OVERALL), each.with_columns(orientation=pl.lit("by model"), task=task)])
    table = table.with_columns(name=set_name("ablation") if "control" in table.columns else pl.col("scoring"))
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
        pages.append(colour_bar(figure, [ax], "change in accuracy (points)\nbold: interval without 0"))
    return pages


def depth(table: pl.DataFrame) -> Pages:
    """Share of the oriented neurons in each third of the layers; ticks: that share for random ones."""
    random = pl.col("scoring").is_in(["random", "head-random"])
    shown = table.filter(~random | random.all())
    regimes, thirds = unique(table, "regime"), unique(table, "third")
    size = (0.65 * len(regimes) + 0.3, 1.7)
    pages, cells = crossed(shown, ["scoring"], *size, sharex=True, sharey=True)
    for ax, cell in cells:
        models, heads = unique(cell, "model"), cell["scoring"].str.starts_with("head-").any()
        control = table.filter(pl.col("model").is_in(models), scoring="head-random" if heads else "random")
        for i, third in enumerate(thirds):
            bars, ticks = cell.filter(third=third), control.filter(third=third)
            x, at = ([regimes.index(r) + 0.27 * (i - 1) for r in side["regime"]] for side in (bars, ticks))
            mean, low, high = estimates(bars, "share")
            ax.bar(x, mean, 0.26, color=colour(i), hatch=HATCHES[i], edgecolor="white", label=f"{third} third")
            ax.vlines(x, low, high, color="0.2", linewidth=1)
            ax.plot(at, ticks["share_mean"], "_k", markersize=9, label="random" if i == 2 else None)
        ax.set_xticks(range(len(regimes)), [regime.replace("-", "-\n") for regime in regimes])
        ax.grid(False, axis="x")
    return finished(pages, "", "share of the oriented neurons (%)", same="y")


def overlap(table: pl.DataFrame) -> Pages:
    """Jaccard of the oriented neurons of two regimes, and in brackets that of random sets of their sizes."""
    table = table.with_columns(pair=pl.concat_str("first", "second", separator=" and\n"))
    pairs, scorings = unique(table, "pair"), parts(table, "scoring")
    names = name_width([*table["first"] + " and", *table["second"]])
    size = (0.5 * table["model"].n_unique() + 0.4, 0.42 * len(pairs) + 1.4)
    pages, axes = wrapped(len(scorings), 3, names, *size)
    for ax, ((scoring,), part) in zip(axes, scorings.items(), strict=True):
        limits = {"cmap": "Blues", "vmin": 0, "vmax": 1, "fmt": ".2f"}
        written = heat_map(ax, part, ["pair"], ["model"], "jaccard_mean", **limits)
        for number, chance in zip(ax.texts, written["chance"], strict=True):
            number.set_text(f"{number.get_text()}\n({chance:.2f})")
        ax.set_title(scoring)
        ax.set_yticks([i + 0.5 for i in range(len(pairs))], pairs, rotation=0)
    return [colour_bar(page, page.axes, "Jaccard (in brackets: of random sets)") for page in pages]


def stability(table: pl.DataFrame) -> Pages:
    """Jaccard of a reward model's oriented neurons with those of another seed, and between random sets."""
    return dots(table, "jaccard", "regime", "Jaccard of two seeds (bar: least to greatest)", ["scoring"], "chance")


def claims(table: pl.DataFrame) -> Pages:
    """Estimate and interval of each part of each claim beside its threshold and its controls, marked by verdict: in
    rows, and as curves where a claim is about every size of a set."""
    swept = pl.col("part").str.contains(SWEPT)
    listed, curved = table.filter(~swept), table.filter(swept)
    return [*(verdict_rows(listed) if len(listed) else []), *(verdict_curves(curved) if len(curved) else [])]


# The part of a claim that is about one size of a set: where, percent, what.
SWEPT = r"^(.+), p = ([\d.e+-]+) %: (.+)$"
VERDICTS = ["holds", "undecided", "does not hold"]


def verdict_rows(table: pl.DataFrame) -> Pages:
    """A row for each part, a panel for each claim, as many on a page as have room."""
    pieces = [
        among(group, ["part"], [(name,) for name in names])
        for group in parts(table, "claim", "unit").values()
        for names in evenly(unique(group, "part"), 36)
    ]
    heights, on_pages = [0.22 * (piece["part"].n_unique() + 2) for piece in pieces], [list[int]()]
    for i, height in enumerate(heights):
        if on_pages[-1] and sum(heights[j] for j in on_pages[-1]) + height > PAGE_HEIGHT - 0.9:
            on_pages.append([])
        on_pages[-1].append(i)
    pages = []
    for chosen in on_pages:
        tall = [heights[i] for i in chosen]
        size = (min(PAGE_WIDTH, 4.5 + name_width(unique(table, "part"))), sum(tall) + 0.9)
        figure, axes = panels(len(chosen), 1, *size, height_ratios=tall)
        for ax, i in zip(axes, chosen, strict=True):
            verdict_panel(ax, pieces[i])
        pages.append(figure)
    return finished(pages)


def verdict_panel(ax: Axes, group: pl.DataFrame) -> None:
    row_axis(ax, [(part,) for part in unique(group, "part")], 0)
    ax.set_title(f"{group['claim'][0]} ({group['unit'][0]})", loc="left")
    ax.grid(axis="x")
    rows = group.with_columns(y=pl.col("part").rle_id(), below=0.2 * (1 + pl.int_range(pl.len()).over("part")))
    y, below, threshold = numbers(rows, "y", "below", "threshold")
    control, low, high = numbers(rows, "control_estimate", "control_low", "control_high")
    ax.plot(threshold, y, "|", color="0.15", markersize=12, markeredgewidth=1.5, label="threshold")
    ax.hlines(y + below, low, high, color="0.55", linewidth=1)
    ax.plot(control, y + below, "x", color="0.55", markersize=4, label="control")
    for (verdict,), of in parts(rows, "verdict").items():
        shape = look(VERDICTS, verdict) | {"linestyle": "none"}
        ax.hlines(of["y"], of["low"], of["high"], color=shape["color"])
        ax.plot(of["estimate"], of["y"], **shape)


def verdict_curves(table: pl.DataFrame) -> Pages:
    """A curve over sizes of a set for each place and comparison, and those of its controls."""
    where, percent, what = (pl.col("part").str.extract(SWEPT, i) for i in (1, 2, 3))
    place = pl.format("{} ({}): {}", "claim", "unit", where)
    table = table.with_columns(place=place, percent=percent.cast(pl.Float64), what=what)
    pages, cells = crossed(table, ["what"], 4, 2.4, down="place", sharex=True)
    for ax, cell in cells:
        for (_,), of in parts(cell, "control").items():
            control, low, high = numbers(of, "control_estimate", "control_low", "control_high")
            ax.fill_between(of["percent"], low, high, color="0.55", alpha=0.2, linewidth=0)
            ax.plot(of["percent"], control, "x--", color="0.55", linewidth=1, markersize=4, label="control")
        curve = cell.unique("part", keep="first", maintain_order=True)
        estimate, low, high, threshold = numbers(curve, "estimate", "low", "high", "threshold")
        ax.plot(curve["percent"], threshold, color="0.15", linewidth=1.5, label="threshold")
        ax.fill_between(curve["percent"], low, high, color="0.15", alpha=0.12, linewidth=0)
        ax.plot(curve["percent"], estimate, color="0.15", linewidth=1)
        for (verdict,), of in parts(curve, "verdict").items():
            ax.plot(of["percent"], of["estimate"], **look(VERDICTS, verdict) | {"linestyle": "none"})
    return finished(pages, "neurons in the set (%)", same="x")


class Spec(NamedTuple):
    """The tables that a figure is drawn from, which rows of the first, and how."""

    tables: tuple[str, ...]
    rows: pl.Expr
    draw: Callable[..., Pages]

    def pages(self, tables: Tables) -> Pages:
        first, *others = (tables[name] for name in self.tables)
        rows = first.filter(self.rows)
        return self.draw(rows, *others) if len(rows) else no_data()


OVER_MODELS, EACH_MODEL = pl.col("model") == OVERALL, pl.col("model") != OVERALL
OF_NEURONS = ~pl.col("family").str.starts_with("head-")  # a head is more than a neuron: not on one axis
BOTH = EACH_MODEL | (pl.col("model").n_unique() > 2)  # the mean over one model would be shown twice
JUDGED = pl.all_horizontal(pl.col("estimate", "low", "high").is_finite())
WITH_CARD = ("accuracy", "benchmarks_card")
FIGURES = {
    "radar": Spec(WITH_CARD, OVER_MODELS, radar),
    "radar_by_model": Spec(WITH_CARD, EACH_MODEL, radar),
    "accuracy": Spec(WITH_CARD, BOTH, accuracy),
    "contrasts": Spec(("contrasts",), BOTH, contrasts),
    "retention": Spec(("retention",), BOTH, retention),
    "score_shift": Spec(("score_histogram", "score_shift"), BOTH & (pl.col("figure") == "shift"), histograms),
    "depth": Spec(("depth",), BOTH, depth),
    "ablation_curve": Spec(("ablation_curve",), OVER_MODELS, curves),
    "ablation_curve_by_model": Spec(("ablation_curve",), EACH_MODEL, curves),
    "own_ablation": Spec(("own_ablation",), pl.lit(True), change_map),
    "compression": Spec(("score_histogram", "compression"), BOTH & (pl.col("figure") == "compression"), histograms),
    "overlap": Spec(("neuron_overlap",), BOTH, overlap),
    "stability": Spec(("stability",), BOTH, stability),
    "shared_ablation": Spec(("shared_ablation",), pl.lit(True), change_map),
    "set_size": Spec(("set_size", "ablation_curve"), BOTH & OF_NEURONS, set_size),
    "claims": Spec(("claims",), JUDGED, claims),
}
