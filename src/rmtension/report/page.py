"""One HTML page with a study's claims, figures and tables in the paper's order; it needs no other file, no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, cast

import jinja2
import polars as pl
import polars.selectors as cs
import yaml
from itables.utils import read_package_file

from rmtension.base.files import write_text
from rmtension.base.pages import packed, svg_pages
from rmtension.report.caveats import caveats, unscored
from rmtension.report.conclusions import beside_length, conclusions
from rmtension.report.exhibits import EVERY_ROW, FOREMOST, SECTIONS, Exhibit
from rmtension.report.figures import selected
from rmtension.report.given_conclusions import given_conclusions, with_parts
from rmtension.report.given_exhibits import GIVEN_FOREMOST, GIVEN_SECTIONS, UNTRAINED, of_each
from rmtension.report.glance import at_a_glance
from rmtension.study.naming import OVERALL
from rmtension.study.study import Study

FEW_ROWS = 12  # a table no longer than this is shown as it is, without search
SIGNED = (
    "delta",
    "difference",
    "gap",
    "gain",
    "recovery_difference",
    "cosine_difference",
    "opposed_difference",
    "closeness",
    "correlation",
)


class Form(NamedTuple):
    """What the pages of one kind of study have before and behind the claims, and how they speak of it."""

    foremost: dict[str, list[Exhibit]]
    sections: dict[str, list[Exhibit]]
    conclusions: Callable[[Study, Mapping[str, pl.DataFrame], pl.DataFrame], dict[str, str]]
    glances: Callable[[Mapping[str, pl.DataFrame]], dict[str, pl.DataFrame]]


TRAINED = Form(FOREMOST, SECTIONS, conclusions, lambda _tables: {})
GIVEN = Form(GIVEN_FOREMOST, GIVEN_SECTIONS, given_conclusions, at_a_glance)


def write_report(
    path: Path,
    study: Study,
    tables: dict[str, pl.DataFrame],
    claims: pl.DataFrame,
    figure_files: Mapping[str, Path],
    provenance: Mapping[str, str],
) -> None:
    """Write the report from the claims, and from tables, figures' SVG files and provenance by name.

    It links to the files of claims, tables and figures beside it.
    """
    form, said = (GIVEN, with_parts(claims)) if study.given else (TRAINED, claims)
    compared = as_compared(tables, study)
    images = {name: svg_pages(file.read_text(encoding="utf-8")) for name, file in figure_files.items()}
    of_claims = images.pop("claims", [])
    seen = of_given(tables, images) if study.given else tables
    every = [*form.foremost.values(), *form.sections.values()]
    listed = {exhibit.table for exhibits in every for exhibit in exhibits} | {"published", "holes"}
    unplaced = "Without a section of its own; docs/outputs.md has the columns."
    further = [Exhibit(name, unplaced) for name in dict.fromkeys([*seen, *images]) if name not in listed]

    def shown(sections: Mapping[str, Sequence[Exhibit]]) -> dict[str, list[dict[str, Any]]]:
        there = {
            heading: [show(exhibit, seen, images) for exhibit in exhibits if exhibit.table in {*seen, *images}]
            for heading, exhibits in sections.items()
        }
        return {heading: exhibits for heading, exhibits in there.items() if exhibits}

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        study=study,
        settings=yaml.safe_dump(study.analysed(), sort_keys=False, allow_unicode=True),
        claims={
            name: rows.rows(named=True) for (name,), rows in said.fill_nan(None).group_by("claim", maintain_order=True)
        },
        untested=[claim for claim in claims["claim"].unique(maintain_order=True) if claim not in said["claim"]],
        conclusions=form.conclusions(study, compared, claims),
        glances=form.glances(compared),
        beside_length=beside_length(said),
        images=of_claims,
        foremost=shown(form.foremost),
        sections=shown({**form.sections, "Further tables": further}),
        holes=tables["holes"].rows(named=True) if "holes" in tables else [],
        caveats=caveats(study, left_out(tables["benchmark_accuracy"]) if "benchmark_accuracy" in tables else []),
        provenance=provenance,
        few=FEW_ROWS,
        titles=titles,
        packed=packed,
        zip=zip,
        script=base64.b64encode(read_package_file("html", "dt_bundle.js").encode()).decode(),
        style=read_package_file("html", "dt_bundle.css"),
    )
    write_text(page, path)


def as_compared(tables: dict[str, pl.DataFrame], study: Study) -> dict[str, pl.DataFrame]:
    """The tables, the card of benchmarks with as many responses as the study compares at once."""
    compared, card = copy(tables), "benchmarks_card"  # of its kind, so that a table which is missing is named
    if card in tables:
        compared[card] = selected(tables[card], study.analysis)
    return compared


def left_out(table: pl.DataFrame) -> list[str]:
    """What caveats say of the table benchmark_accuracy."""
    return [f"{row['n_unscored']:g} of {row['n_comparisons']:g} on {row['benchmark']}"
            for row in unscored(table).rows(named=True)]  # fmt: skip


def of_given(tables: Mapping[str, pl.DataFrame], images: dict[str, list[str]]) -> dict[str, pl.DataFrame]:
    """What is shown of tables where reward models are given: those with rows, of each model. Figures of the others,
    of means over models, and of what only trained reward models have are taken out of `images`."""
    listed = {exhibit.table for exhibits in (GIVEN.foremost | GIVEN.sections).values() for exhibit in exhibits}
    seen = {name: of_each(table) for name, table in tables.items() if len(table) and name not in UNTRAINED}
    of_means = [name for name in images if f"{name}_by_model" in images]
    for name in [*images]:
        if name not in listed or name in of_means or (name in tables and name not in seen):
            del images[name]
    return seen


def show(exhibit: Exhibit, tables: Mapping[str, pl.DataFrame], images: dict[str, list[str]]) -> dict[str, Any]:
    """What the template shows of an exhibit; its images are taken out of `images`, to be shown once."""
    shown: dict[str, Any] = {"exhibit": exhibit, "images": images.pop(exhibit.table, [])}
    shown |= dict.fromkeys(["n_rows", "means", "whole", "sortable", "twins"])
    if exhibit.table in tables:
        table = filled(tables[exhibit.table].filter(exhibit.where))
        means = means_over_models(table, exhibit)
        whole = texts(table) if means is None and len(table) <= FEW_ROWS else None
        over = ", means over all models" if has_all(table) else ""
        shown |= {"n_rows": len(table), "means": means, "over": over, "whole": whole}
        shown["sortable"] = sortable(table) if whole is None else None
    if "published" in tables:
        twins = tables["published"].filter(table=exhibit.table).drop("table")
        twins = twins if twins.is_empty() else twins.filter(exhibit.where)  # which may be of other columns
        shown["twins"] = None if twins.is_empty() else sortable(filled(twins))
    return shown


def filled(table: pl.DataFrame) -> pl.DataFrame:
    """Without the columns that say nothing; what is no finite number becomes null, as JSON has no word for it."""
    finite = table.with_columns(cs.float().replace([math.nan, math.inf, -math.inf], None))
    # One seed has no spread to show.
    silent = {column.name: ["", "0.0"] if column.name.endswith("_sd") else [""] for column in finite}
    return finite.select(c for c in finite if c.cast(pl.String).replace(silent[c.name], None).count())


def decimals(column: pl.Series) -> int:
    """One, and more where all numbers are below ten."""
    return min(8, max(1, 2 - math.floor(math.log10(cast(float | None, column.abs().max()) or 1))))


def texts(table: pl.DataFrame) -> pl.DataFrame:
    """Every cell as text, a mean with its interval, or else its standard deviation, beside it."""

    def rounded(name: str, places: int) -> pl.Expr:
        number = pl.col(name).round(places) if name in table.columns else pl.lit(None, pl.Float64)
        text = number.cast(pl.Decimal(38, places)).cast(pl.String)
        signed = name.rpartition("_")[0] in SIGNED and not name.endswith("_sd")
        return pl.when(number > 0).then("+" + text).otherwise(text) if signed else text

    def cell(column: pl.Series) -> pl.Expr:
        number, kind = pl.col(column.name), column.dtype
        if column.name.endswith("_mean"):
            places = decimals(column)
            value = column.name.removesuffix("mean")
            mean, low, high, sd = (rounded(value + part, places) for part in ("mean", "low", "high", "sd"))
            return pl.coalesce(pl.format("{} [{}, {}]", mean, low, high), pl.format("{} ± {}", mean, sd), mean)
        if kind.is_float():
            short = pl.when(number.abs() < 1000).then(number.round_sig_figs(4)).otherwise(number.round(0))
            return short.cast(pl.String).str.strip_suffix(".0")
        text = number.cast(pl.String)
        groups = text.str.reverse().str.replace_all(r"(\d{3})", "$1,").str.reverse().str.replace(r"^(-?),", "$1")
        return groups if kind.is_integer() else text

    means = [name.removesuffix("mean") for name in table.columns if name.endswith("_mean")]
    alone = table.drop([value + part for value in means for part in ("low", "high", "sd")], strict=False)
    return table.select(cell(column).fill_null("").alias(column.name) for column in alone)


def titles(names: Sequence[str]) -> list[str]:
    short = [name.removesuffix("_mean") for name in names]
    return [(long if s in names else s).replace("_", " ") for s, long in zip(short, names, strict=True)]


def sortable(table: pl.DataFrame) -> dict[str, Any]:
    """A table for the page's script: of a number both its text and what to sort it by."""
    written = texts(table)
    by = table.select(cs.numeric().cast(pl.Float64).round_sig_figs(6))
    cells = [zip(text, by[text.name], strict=True) if text.name in by else text for text in written]
    numeric = [name in by for name in written.columns]
    return {"titles": titles(written.columns), "numeric": numeric, "rows": list(zip(*cells, strict=True))}


def has_all(table: pl.DataFrame) -> bool:
    """Whether a table has rows of all models; one without rows counts as such."""
    return "model" in table.columns and (OVERALL in table["model"] or table.is_empty())


def means_over_models(table: pl.DataFrame, exhibit: Exhibit) -> pl.DataFrame | None:
    """The exhibit's value in the rows of all models, or of a table without such rows, as a grid of text; None where it
    has none."""
    value = f"{exhibit.value}_mean"
    if value not in table.columns:
        return None
    rows = texts(table).filter(table["model"] == OVERALL if has_all(table) else EVERY_ROW)
    words = [name for name in rows.columns if name in ("percent", "count") or table[name].dtype == pl.String]
    keys = [name for name in words if rows[name].n_unique() > 1]
    across = [key for key in keys if key in exhibit.across]
    down = [key for key in keys if key not in across]
    if exhibit.beside or not (across and down):
        beside = [f"{name}_mean" for name in exhibit.beside if f"{name}_mean" in table.columns]
        return rows.select(*keys, *beside, value)
    headed = rows.with_columns(pl.concat_str(across, separator=", ").alias("head"))
    return headed.pivot("head", index=down, values=value, aggregate_function="first").fill_null("")
