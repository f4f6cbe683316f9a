"""The figure of repairs read back: gains, gap, shares and costs are the table's."""

from __future__ import annotations

from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from example_page import TABLES
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rmtension.report.drawing import style
from rmtension.report.figures import FIGURES
from rmtension.study.naming import BOTH
from rmtension.study.stages import Figures

TABLE = TABLES["repair"]
with mpl.rc_context(style(Figures())):
    PAGES = FIGURES["repair"].pages({"repair": TABLE}, given=False)
    PANELS = {ax.get_title(): ax for page in PAGES for ax in page.axes}


def line(ax: Axes, label: str) -> Any:
    [found] = [line for line in ax.get_lines() if line.get_label() == label]
    return np.asarray(found.get_xydata(), float).tolist()


@pytest.mark.parametrize(
    ("model", "place", "tasks"),
    [*product(TABLE["model"].unique(maintain_order=True), ["helpful", "harmless", BOTH], ["own test", "own tasks"])],
)
def test_gains_stand_between_the_mixed_reward_model_and_the_single_objective_one(
    model: str, place: str, tasks: str
) -> None:
    ax, rows = PANELS[f"{model}\n{place}, {tasks}"], TABLE.filter(model=model, orientation=place, tasks=tasks)
    for measure, label in (("accuracy", "accuracy"), ("balanced", "length-balanced accuracy")):
        of = rows.filter(measure=measure)
        assert [x for x, _ in line(ax, label)] == of["gain_mean"].to_list()
        assert [round(y) for _, y in line(ax, label)] == [0, 1]
        lines = [segment for of in ax.collections if isinstance(of, LineCollection) for segment in of.get_segments()]
        bars = {tuple(segment[:, 0]) for segment in lines}
        assert bars >= set(of.select("gain_low", "gain_high").rows())
    gap = rows.filter(measure="accuracy")["gap_mean"][0]
    assert {x for x, _ in line(ax, "single-objective one")} == {gap}
    shares = [text.get_text() for text in ax.texts]
    assert shares == ["closed", *(f"{100 * share:.0f} %" for share in rows.filter(measure="accuracy")["closed_mean"])]


def test_costs_stand_once_beside_the_names() -> None:
    names = {place: [label.get_text() for label in ax.get_yticklabels()] for place, ax in PANELS.items()}
    written = [f"{repair}\nno training; parts on 1,200" for repair in ("merged", "ensemble")]
    for place, of in names.items():
        spec = PANELS[place].get_subplotspec()
        assert spec is not None and of == (written if spec.is_first_col() else ["", ""]), place


def test_a_mark_stands_in_the_row_of_its_repair_where_mixed_regimes_have_other_repairs() -> None:
    """What the first panel of a page is labelled with is what stands in that row of every panel."""
    more = TABLE.with_columns(
        mixture=pl.lit("third"), regime="third-" + pl.col("regime"), gain_mean=pl.col("gain_mean") + 100
    ).filter(pl.col("regime") != "third-merged", pl.col("orientation") != "harmless")
    with mpl.rc_context(style(Figures())):
        pages = FIGURES["repair"].pages({"repair": pl.concat([TABLE, more])}, given=False)
    for page in pages:
        names = [[label.get_text().split("\n")[0] for label in ax.get_yticklabels()] for ax in page.axes]
        [repairs] = {tuple(of) for of in names if any(of)}
        for ax in page.axes:
            model, place, mixture = ax.get_title().split("\n")
            table = more if mixture == "(third)" else TABLE
            keys = dict(zip(("orientation", "tasks"), place.split(", "), strict=True))
            rows = table.filter(model=model, measure="accuracy", **keys).select("gain_mean", "regime").rows()
            assert [(x, repairs[round(y)]) for x, y in line(ax, "accuracy")] == rows
