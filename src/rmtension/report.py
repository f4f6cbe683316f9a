"""One HTML page with all figures and tables of a study, which needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import jinja2
import polars as pl
import yaml

from rmtension.files import write_text
from rmtension.study import Study
from rmtension.tables import readable

# Table and figure -> heading, and what it shows and what to look for.
SECTIONS = {
    "benchmark_accuracy": (
        "Accuracy on whole benchmarks",
        "Percent of comparisons in which every chosen response scores above every rejected one: see "
        "first whether each regime has learnt its own test split.",
    ),
    "accuracy": (
        "Accuracy by task",
        "Percent correct on each task: look whether each regime leads on the tasks of its own "
        "orientation, and how far the mixed one stays behind it.",
    ),
    "retention": (
        "Retention",
        "Share of the comparisons that a single-objective reward model gets right and the mixed one "
        "does, too: low values mark tasks on which mixing loses what could be learnt.",
    ),
    "ablation_curve": (
        "Accuracy as neurons are set to zero",
        "Accuracy when the top neurons by each scoring are set to zero: a scoring finds neurons that "
        "matter where its curve falls faster than that of random neurons.",
    ),
    "own_ablation": (
        "Ablating a reward model's own neurons",
        "Change in accuracy when a reward model's own top neurons are set to zero: look for losses "
        "(red) on its own orientation beside gains (blue) on the other.",
    ),
    "shared_ablation": (
        "Ablating shared and exclusive neurons",
        "Change in accuracy of the mixed reward model without the neurons that both single-objective "
        "ones share, or only one has: look whether the shared ones cost more, bearing in mind that "
        "the sets differ in size.",
    ),
    "depth": (
        "Where the oriented neurons lie",
        "Share of the top neurons in each third of the layers: look for bars away from the black "
        "marks, where randomly chosen neurons lie.",
    ),
}


def write_report(
    path: Path,
    study: Study,
    tables: Mapping[str, pl.DataFrame],
    figure_files: Mapping[str, Path],
    provenance: Mapping[str, str],
) -> None:
    """Write the report from the tables, the figures' PNG files and the provenance, both by name."""
    sections = [
        {
            "name": name,
            "heading": heading,
            "caption": caption,
            "image": base64.b64encode(figure_files[name].read_bytes()).decode() if name in figure_files else "",
            "table": readable(tables[name]),
        }
        for name, (heading, caption) in SECTIONS.items()
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        study=study,
        settings=yaml.safe_dump(study.analysed(), sort_keys=False),
        sections=sections,
        unscored=unscored(tables["benchmark_accuracy"]),
        provenance=provenance,
    )
    write_text(page, path)


def unscored(table: pl.DataFrame) -> list[tuple[str, str, str]]:
    """benchmark, comparisons left out, all comparisons: where most were left out by any model and regime."""
    counts = table.sort("n_unscored", descending=True, maintain_order=True).filter(pl.col("n_unscored") > 0)
    worst = counts.unique("benchmark", keep="first", maintain_order=True)
    return [(b, f"{u:g}", f"{n:g}") for b, u, n in worst.select("benchmark", "n_unscored", "n_comparisons").rows()]
