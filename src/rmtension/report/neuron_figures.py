"""Figures of the oriented neurons: where they lie, and how far reward models share them."""

from __future__ import annotations

import polars as pl

from rmtension.report.drawing import (
    HATCHES,
    Pages,
    colour,
    colour_bar,
    crossed,
    dots,
    estimates,
    finished,
    heat_map,
    name_width,
    parts,
    unique,
    wrapped,
)


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
