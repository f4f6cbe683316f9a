"""The study's figures, each drawn from the tables that FIGURES names beside it and the study's settings alone.

`{x}_mean` is drawn as a mark, bar, line or cell and `{x}_low` to `{x}_high` as its interval, where there is one.
A figure is a list of pages, none larger than can be printed with text that is read. Each is a function in the module of
its subject, and a line in FIGURES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from rmtension.base.files import replacing, write_text
from rmtension.base.pages import PAGE
from rmtension.report.ablation_figures import change_map, curves, set_size
from rmtension.report.accuracy_figures import accuracy, contrasts, radar, retention
from rmtension.report.calibration_figures import calibration
from rmtension.report.cause_figures import conflict, conflict_layers, patching
from rmtension.report.claim_figures import claims
from rmtension.report.drawing import Pages, Tables, no_data, style
from rmtension.report.length_figures import lead, surface
from rmtension.report.neuron_figures import depth, overlap, stability
from rmtension.report.repair_figures import repair
from rmtension.report.rules import is_given
from rmtension.report.score_figures import histograms
from rmtension.report.tension_figures import tension
from rmtension.study.naming import OVERALL, UNORIENTED
from rmtension.study.stages import Analysis, Figures


def make_figures(
    tables: Tables, settings: Figures, analysis: Analysis, names: Iterable[str] | None = None
) -> dict[str, Pages]:
    """The pages of every figure, or of those named, of what the study's analysis selects. A figure without data says
    so."""
    with mpl.rc_context(style(settings)):
        chosen = {name: selected(table, analysis) for name, table in tables.items()}
        given = is_given(tables["models_card"]) if "models_card" in tables else False
        return {name: FIGURES[name].pages(chosen, given) for name in names or FIGURES}


def selected(table: pl.DataFrame, analysis: Analysis) -> pl.DataFrame:
    """The rows of the study's selection of neurons; in the card of benchmarks, what the study compares."""
    if "selection" in table.columns:
        return table.filter(selection=analysis.selection)
    if analysis.rm_bench == "same-style" and {"kind", "rejected"} <= {*table.columns}:
        pairs = pl.when(pl.col("kind") == "rm-bench").then(pl.lit("1"))
        return table.with_columns(pairs.otherwise(side).alias(side) for side in ("chosen", "rejected"))
    return table


def write_figure(pages: Pages, path: Path, dpi: int) -> None:
    """`path`.pdf, `path`.svg and `path`.png, without dates or versions: the same figure gives the same bytes."""
    for page in pages:
        lay_out(page, dpi)
    # Type 42 keeps the text of a pdf as text.
    with (
        mpl.rc_context({"pdf.fonttype": 42}),
        replacing(path.with_name(f"{path.name}.pdf")) as temporary,
        PdfPages(temporary, metadata={"CreationDate": None}) as pdf,
    ):
        for page in pages:
            FigureCanvasPdf(page).print_pdf(pdf)
    write_text(svg(pages, dpi), path.with_name(f"{path.name}.svg"))
    write_png(pages, path.with_name(f"{path.name}.png"), dpi)


def svg(pages: Pages, dpi: int) -> str:
    """The pages below one another, each as an `svg` element that is a picture by itself, as large as in the png."""
    sizes = [[round(dpi * inches) for inches in page.get_size_inches()] for page in pages]
    width, height = max(width for width, _ in sizes), sum(height for _, height in sizes)
    drawn, top = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'], 0
    for page, (across, down) in zip(pages, sizes, strict=True):
        with mpl.rc_context({"svg.hashsalt": ""}), StringIO() as text:  # else names of parts are drawn anew each time
            FigureCanvasSVG(page).print_svg(text, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
            whole = text.getvalue()
        place = f'class="{PAGE}" y="{top}" width="{across}" height="{down}"'
        drawn.append(re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', place, whole[whole.index("<svg") :], count=1))
        top += down
    return "\n".join([*drawn, "</svg>", ""])


def write_png(pages: Pages, path: Path, dpi: int) -> None:
    """The pages below one another."""
    for page in pages:
        lay_out(page, dpi)
    images = [drawn(page) for page in pages]
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    for i, image in enumerate(images):
        whole.paste(image, (0, sum(above.height for above in images[:i])))
    with replacing(path) as temporary:
        whole.save(temporary, format="png", dpi=(dpi, dpi))


def lay_out(page: Figure, dpi: int) -> None:
    """Once, for any form. matplotlib's `savefig` would each time, and draws a page twice: none is saved by it."""
    page.set_dpi(dpi)  # in a pdf texts are as wide, but for parts of a point
    if engine := page.get_layout_engine():
        engine.execute(page)
        page.set_layout_engine("none")


def drawn(page: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(page)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


class Spec(NamedTuple):
    """The tables that a figure is drawn from, which rows of the first, and how."""

    tables: tuple[str, ...]
    rows: pl.Expr
    draw: Callable[..., Pages]

    def pages(self, tables: Tables, given: bool) -> Pages:
        """given: of each model alone where a figure has any, as the mean of given reward models is of none."""
        first, *others = (tables[name] for name in self.tables)
        rows = first.filter(self.rows)
        if given and "model" in rows.columns:
            rows = rows.filter(EACH_MODEL | EACH_MODEL.any().not_())
        return self.draw(rows, *others) if len(rows) else no_data()


OVER_MODELS, EACH_MODEL = pl.col("model") == OVERALL, pl.col("model") != OVERALL
OF_NEURONS = ~pl.col("family").str.starts_with("head-")  # a head is more than a neuron: not on one axis
BOTH = EACH_MODEL | (pl.col("model").n_unique() > 2)  # the mean over one model would be shown twice
JUDGED = pl.col("estimate").is_finite()
ORIENTED, IN_BINS = pl.col("orientation") != UNORIENTED, pl.col("share_mean").is_not_null()
BEYOND_NOISE = pl.col("cosine_mean").is_not_null().any()  # else there is nothing to draw
WITH_CARD = ("accuracy", "benchmarks_card")
FIGURES = {
    "radar": Spec(WITH_CARD, OVER_MODELS, radar),
    "radar_by_model": Spec(WITH_CARD, EACH_MODEL, radar),
    "accuracy": Spec(WITH_CARD, BOTH, accuracy),
    "surface": Spec(("surface", "accuracy", "benchmark_accuracy", *WITH_CARD[1:], "models_card"), ORIENTED, surface),
    "length_lead": Spec(("length_lead", "contrasts", "length"), OVER_MODELS, lead),
    "calibration": Spec(("reliability",), OVER_MODELS & IN_BINS, calibration),
    "calibration_by_model": Spec(("reliability",), EACH_MODEL & IN_BINS, calibration),
    "contrasts": Spec(("contrasts",), BOTH, contrasts),
    "retention": Spec(("retention",), BOTH, retention),
    "score_shift": Spec(("score_histogram", "score_shift"), BOTH & (pl.col("figure") == "shift"), histograms),
    "depth": Spec(("depth",), BOTH, depth),
    "ablation_curve": Spec(("ablation_curve", "benchmarks_card"), OVER_MODELS, curves),
    "ablation_curve_by_model": Spec(("ablation_curve", "benchmarks_card"), EACH_MODEL, curves),
    "own_ablation": Spec(("own_ablation",), pl.lit(True), change_map),
    "compression": Spec(("score_histogram", "compression"), BOTH & (pl.col("figure") == "compression"), histograms),
    "overlap": Spec(("neuron_overlap",), BOTH, overlap),
    "stability": Spec(("stability",), BOTH, stability),
    "shared_ablation": Spec(("shared_ablation",), pl.lit(True), change_map),
    "tension": Spec(("tension",), EACH_MODEL & (pl.col("set") != "shared-authors"), tension),
    "set_size": Spec(("set_size", "ablation_curve"), BOTH & OF_NEURONS, set_size),
    "patching": Spec(("patching",), BOTH, patching),
    "conflict": Spec(("conflict",), BOTH & BEYOND_NOISE, conflict),
    "conflict_layers": Spec(("conflict_layers",), BEYOND_NOISE, conflict_layers),
    "repair": Spec(("repair",), BOTH, repair),
    "claims": Spec(("claims",), JUDGED, claims),
}
