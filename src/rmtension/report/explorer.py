"""The explorer: one HTML page in which comparisons and neurons of a study are looked at, one by one; it needs no other
file and no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from rmtension.base.files import write_text
from rmtension.base.pages import packed
from rmtension.report.drawing import style
from rmtension.study.study import Study

PAGE = Path(__file__).with_name("explorer_page")
SCRIPTS = ["data.js", "dom.js", "comparison.js", "running.js", "neurons.js", "list.js", "main.js"]  # in this order


def write_explorer(path: Path, study: Study, blocks: Mapping[str, Any]) -> None:
    """Write the page. blocks: what it shows, by name, each of them what JSON can hold (analysis/explorer.py)."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((PAGE / "page.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        study=study,
        style=(PAGE / "style.css").read_text(encoding="utf-8"),
        script="\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        colours=[one["color"] for one in style(study.figures)["axes.prop_cycle"]],
        drawn=drawn(blocks["comparisons"]["totals"]),
        blocks={name: packed(block) for name, block in blocks.items()},
    )
    write_text(page, path)


def drawn(totals: Mapping[str, list[int]]) -> str:
    """How many comparisons are on the page. totals: benchmark -> how many of them are, and of how many."""
    shown, every = (sum(column) for column in zip(*totals.values(), strict=True))
    if shown == every:
        return f"All {every:,} comparisons of the study."
    parts = ", ".join(f"{n:,} of {of:,} on {benchmark}" for benchmark, (n, of) in totals.items())
    return f"Drawn from {every:,} comparisons, of every task as many where it has them: {parts}."
