"""The report from small tables that have the columns of a study's; tests/browser opens the same page in a browser."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from rmtension.report.figures import PAGE_WIDTH, write_figure
from rmtension.report.page import SECTIONS, filled, sortable, write_report
from rmtension.running.provenance import registered
from rmtension.study.naming import OVERALL
from rmtension.study.study import Study

STUDY = Study.model_validate(yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text()))
RNG = np.random.default_rng(0)
TASKS = {"orientation": ["helpful", "harmless"], "task": ["tact & <tone>", "focus_50%", "average"]}
REGIMES, SCORINGS = ["helpful", "harmless", "helpful-harmless"], ["magnitude", "change", "random"]
SETS = ["shared", "helpful-only", "harmless-only"]


def made(values: str, keys: dict[str, list[Any]], scale: float = 10, **others: float) -> pl.DataFrame:
    """A row of every combination of keys, the means over models first, with random values and their intervals."""
    keys = {"model": [OVERALL, "zebra", "ape"]} | keys
    table = pl.DataFrame(list(product(*keys.values())), schema=list(keys), orient="row")
    for value in values.split():
        mean = pl.Series(RNG.normal(0, scale, len(table)))
        low, high, sd = mean - scale / 5, mean + scale / 5, pl.Series([scale / 7] * len(table))
        parts = zip(("mean", "sd", "low", "high"), (mean, sd, low, high), strict=True)
        table = table.with_columns(part.alias(f"{value}_{name}") for name, part in parts)
    return table.with_columns(n_seeds=pl.lit(3), **{name: pl.lit(value) for name, value in others.items()})


MIXED: dict[str, list[Any]] = {"regime": ["helpful-harmless"]}
TABLES = {
    "models_card": pl.DataFrame({"model": ["zebra", "ape"], "parameters": [124_000_000, 1_700_000_000]}),
    "accuracy": made("accuracy", {"regime": REGIMES, **TASKS}, 20),
    "contrasts": made("difference", {"first": ["helpful"], "second": ["harmless"], **TASKS}, p=0.0005, q=0.01),
    "retention": made("retention", {**MIXED, "ablation": ["none", *SETS], **TASKS}, 0.2),
    "agreement": made("overlap", {**MIXED, "single": REGIMES[:2], **TASKS}, 0.2),
    "score_shift": made("single mixed closeness", {**MIXED, "single": REGIMES[:2], "response": ["chosen", "rejected"]}),
    "ablation_curve": made(
        "accuracy delta",
        {"regime": REGIMES, "benchmark": ["own"], "scoring": SCORINGS, "percent": [0.0, 2.5, 10.0, 100.0]},
    ),
    "depth": made("share", {"regime": REGIMES, "scoring": SCORINGS, "third": ["early", "middle", "late"]}, 30),
    "rmsd": made("rmsd ratio", {"regime": REGIMES}, 0.003, rmsd=0.0021),
    "own_ablation": made("baseline ablated delta", {"regime": REGIMES, "scoring": SCORINGS, "percent": [9.0], **TASKS}),
    "shared_ablation": made(
        "baseline ablated delta", {**MIXED, "ablation": [*SETS, "random"], "control": ["whole", "random"], **TASKS}
    ),
    "official": pl.DataFrame(schema={"model": pl.String, "value_mean": pl.Float64}),
    "published": pl.DataFrame({
        "table": ["accuracy", "own_ablation"], "model": OVERALL, "regime": "helpful", "ablation": "none", "single": "",
        "orientation": "helpful", "task": "focus_50%", "quantity": ["accuracy", "delta"], "published": [61.5, -7.25],
        "ours": [60.0, 1.0], "low": 50.0, "high": 70.0, "difference": [-1.5, 8.25], "inside": [True, False],
    }),
    "holes": pl.DataFrame({
        "what": ["<b>what</b> mixing keeps", "claim C3"], "why": ["no regime mixes", "no task"],
        "line": ["regimes: {a-b: {mixes: [a, 'b & c']}}", ""],
    }),
    "novel": pl.DataFrame({"model": ["zebra"], "share": [0.25]}),
    "score_histogram": made("share", {"figure": ["shift"], "left": list(np.linspace(-3, 3, 400))}, 0.1),
}  # fmt: skip
NUMBERS = {"published": 1.5, "low": -2.25, "high": 3.125, "threshold": 0.0, "control_low": -1.0, "control_high": 0.5}


def claim_row(claim: str, part: str, verdict: str) -> dict[str, Any]:
    row: dict[str, Any] = {"claim": claim, "part": part, "statement": f"Statement of {claim}", "unit": "points"}
    row |= {"estimate": 1.0625, "control_estimate": -0.125, **NUMBERS} if part else {}
    return row | {"direction": "above", "verdict": verdict, "control": "random", "control_verdict": "undecided",
                  "n_seeds": 3, "note": ""}  # fmt: skip


LEDGER = pl.DataFrame([
    claim_row(claim, part, verdict)
    for claim, verdict in [("C1", "holds"), ("C2", "does not hold"), ("C3", "undecided")]
    for part in ("", "first <part>", "second part")
])  # fmt: skip


def figure(path: Path) -> Path:
    """As wide as the widest, on two pages of different height."""
    pages = [Figure(figsize=(PAGE_WIDTH, height)) for height in (3, 2)]
    for page in pages:
        page.subplots().plot([0, 1], [1, 0])
    write_figure(pages, path.with_suffix(""), 150)
    return path


FIGURES = ["accuracy", "retention", "radar", "unheard-of", "claims"]


def write_example(folder: Path) -> Path:
    """A report of the tables above, with a figure that has a table, one that has none, and the claims'."""
    image = figure(folder / "image.png")
    report = folder / "report.html"
    write_report(report, STUDY, TABLES, LEDGER, dict.fromkeys(FIGURES, image), {"code": "<1>"})
    return report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_example(tmp_path_factory.mktemp("report")).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    return page.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0]


def embedded(part: str) -> list[dict[str, Any]]:
    """Data of the sortable tables, read as strictly as a browser does."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = re.findall(r'<script type="application/json">(.*?)</script>', part)
    return [json.loads(text, parse_constant=refuse) for text in found]


def test_nothing_is_fetched(page: str) -> None:
    targets = re.findall(r"""(?:src|href|from|import|url)\s*[=(]?\s*["']([^"']*)["']""", page)
    assert {target.partition(":")[0] for target in targets if ":" in target} == {"data"}
    links = [target for target in targets if ":" not in target and not target.startswith("#")]
    assert {Path(link).parent.as_posix() for link in links} == {".", "tables", "figures"}
    assert "@import" not in page


def test_claims_come_first_then_the_sections_in_their_order(page: str) -> None:
    headings = [html.unescape(heading) for heading in re.findall("<h2>(.*?)</h2>", page)]
    shown = [heading for heading in SECTIONS if heading in headings]
    last = ["What this study did not measure", "Caveats", "Settings", "Provenance"]
    assert headings == ["The paper's claims", *shown, "Further tables", *last]
    assert "Set size" not in headings and "Accuracy" in shown
    assert len(re.findall('class="verdict good"', page)) == len(re.findall('class="verdict bad"', page)) == 4
    assert "1.06 [-2.25, 3.12]" in page and "random<br>-0.125 [-1, 0.5]" in page and "first &lt;part&gt;" in page


def test_every_table_and_figure_is_there_once(page: str) -> None:
    images = re.findall(r'alt="Figure (\S+), page (\d) of 2\..*?src="data:image/png;base64,(.*?)"', page)
    assert sorted((name, number) for name, number, _ in images) == sorted(product(FIGURES, "12"))
    sizes = {Image.open(BytesIO(base64.b64decode(image))).size for _, number, image in images if number == "2"}
    assert sizes == {(150 * PAGE_WIDTH, 300)}
    for name in TABLES:
        assert ("Table official is empty" if name == "official" else f'"tables/{name}.parquet"') in page
    assert "Table novel" in section(page, "Further tables") and "unheard-of" in section(page, "Further tables")
    kept, ablated = (embedded(section(page, h))[0] for h in ("Retention and agreement", "Retention under ablation"))
    assert len(kept["rows"]) + len(ablated["rows"]) == len(TABLES["retention"])


def test_every_exhibit_is_one_that_a_study_can_have() -> None:
    registries = [("analysis.tables", "TABLES"), ("analysis.tables", "DERIVED"), ("analysis.cards", "CARDS")]
    registries += [("analysis.holes", "HOLES"), ("report.figures", "FIGURES")]
    known = {name for registry in registries for name in registered(*registry)}
    listed = {exhibit.table for exhibits in SECTIONS.values() for exhibit in exhibits}
    assert known - listed == {"published", "claims", "holes"} and listed <= known


def test_sortable_rows_are_the_tables(page: str) -> None:
    data, _twins = embedded(section(page, "Accuracy"))
    rows = TABLES["accuracy"].rows(named=True)
    for shown, row in zip(data["rows"], rows, strict=True):
        assert shown[:4] == [row["model"], row["regime"], row["orientation"], row["task"]]
        assert shown[4][0] == "{accuracy_mean:.1f} [{accuracy_low:.1f}, {accuracy_high:.1f}]".format(**row)
        assert shown[4][1] == pytest.approx(row["accuracy_mean"], rel=1e-5)
    assert data["numeric"] == [False] * 4 + [True] * 2


def test_means_over_models_stand_side_by_side(page: str) -> None:
    grid = section(page, "Accuracy").partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall("<td>(.*?)</td>", line) for line in grid.splitlines() if "<td>" in line]
    for orientation, task, *found in cells:
        rows = TABLES["accuracy"].filter(model=OVERALL, orientation=orientation, task=html.unescape(task))
        assert [cell.partition(" ")[0] for cell in found] == [f"{mean:.1f}" for mean in rows["accuracy_mean"]]
    assert len(cells) == 6


def test_published_values_stand_under_their_table(page: str) -> None:
    assert ["61.5", 61.5] in embedded(section(page, "Accuracy"))[1]["rows"][0]
    assert "published" not in section(page, "Contrasts between regimes")


def test_what_was_not_measured_stands_with_its_line(page: str) -> None:
    rows = re.findall(
        "<tr><th scope=.row.>(.*?)</th><td>(.*?)</td><td>(.*?)</td>", section(page, "What this study did not measure")
    )
    line = html.escape(TABLES["holes"]["line"][0]).replace("&#x27;", "&#39;")
    assert rows == [("&lt;b&gt;what&lt;/b&gt; mixing keeps", "no regime mixes", f"<code>{line}</code>"),
                    ("claim C3", "no task", "")]  # fmt: skip


def test_numbers_are_written_for_reading() -> None:
    table = pl.DataFrame({
        "name": ["a", "b"], "n": [-1234567, 12], "delta_mean": [0.04, -0.123], "delta_sd": [0.0, 0.0],
        "small_mean": [0.00123, math.nan], "small_sd": [0.0001, math.inf], "p": [0.00051, 1.0], "none": [None, None],
    })  # fmt: skip
    shown = sortable(filled(table))
    assert shown["titles"] == ["name", "n", "delta", "small", "p"]
    assert [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in shown["rows"]] == [
        ["a", "-1,234,567", "+0.040", "0.00123 ± 0.00010", "0.00051"],
        ["b", "12", "-0.123", "", "1"],
    ]


def test_settings_can_be_had_as_a_study_file(page: str) -> None:
    [link] = re.findall(r'download="default.yaml" href="data:text/yaml;charset=utf-8,(.*?)"', page)
    assert yaml.safe_load(unquote(link)) == STUDY.analysed()


def test_a_study_without_results_still_has_a_report(tmp_path: Path) -> None:
    empty = {name: table.clear() for name, table in TABLES.items()}
    write_report(tmp_path / "report.html", STUDY, empty, LEDGER.clear(), {}, {})
    page = (tmp_path / "report.html").read_text()
    assert "No claim could be tested" in page and page.count("is empty") == len(TABLES)
