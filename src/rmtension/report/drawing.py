"""What all figures are drawn with: their style, pages and panels, legends and axes, and forms that several have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl
import seaborn as sns
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import ScaledTranslation

from rmtension.base.errors import UserError
from rmtension.base.pages import evenly, kept_together
from rmtension.study.stages import Figures

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
        page.supxlabel(broken(x, page.get_figwidth()))
        page.supylabel(broken(y, page.get_figheight()))
        columns = fitting(page.get_figwidth(), 0.6 + name_width([*series]))
        page.legend(series.values(), [*series], loc="outside upper center", ncols=columns)
    return pages


def broken(label: str, inches: float) -> str:
    """In lines that are no longer than that."""
    return fill(label, fitting(inches, name_width("m")))


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


def moved(ax: Axes, aside: float, *artists: Artist) -> None:
    """That many inches to the right, whatever the scale of the axis."""
    for artist in artists:
        artist.set_transform(ax.transData + ScaledTranslation(aside, 0, ax.figure.dpi_scale_trans))


def number_axis(ax: Axes) -> None:
    """Numbers of units along x, from 0 on, and from 1 on in powers of ten: each of a few matters as much as many do."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.5)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


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
