"""The report from small tables that have the columns of a study's; tests/browser opens the same page in a browser."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import re
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import polars as pl
import pytest
import yaml
from example_page import FIGURES, LEDGER, RULES, STUDY, TABLES, write_example

from rmtension.report.drawing import PAGE_WIDTH
from rmtension.report.exhibits import FOREMOST, SECTIONS
from rmtension.report.page import as_compared, filled, sortable, write_report
from rmtension.running.provenance import registered
from rmtension.study.naming import OVERALL


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_example(tmp_path_factory.mktemp("report")).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    return page.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0]


def shown(page: str, heading: str, table: str) -> str:
    """What the section has from that table on."""
    return section(page, heading).partition(f"Table {table},")[2]


def embedded(part: str) -> list[dict[str, Any]]:
    """Data of the sortable tables, read as strictly as a browser does."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = re.findall(r'</table>\s*<script type="application/gzip">(.*?)</script>', part)
    return [json.loads(gzip.decompress(base64.b64decode(text)), parse_constant=refuse) for text in found]


@pytest.mark.parametrize(("mode", "responses"), [("strict", "3"), ("same-style", "1")])
def test_chance_is_that_of_what_is_compared(mode: str, responses: str) -> None:
    study = STUDY.model_copy(update={"analysis": STUDY.analysis.model_copy(update={"rm_bench": mode})})
    card = pl.DataFrame({"benchmark": "rm", "kind": "rm-bench", "task": "Chat", "chosen": "3", "rejected": "3"})
    [row] = as_compared({"benchmarks_card": card}, study)["benchmarks_card"].rows(named=True)
    assert (row["chosen"], row["rejected"]) == (responses, responses)


def test_nothing_is_fetched(page: str) -> None:
    targets = re.findall(r"""(?:src|href|from|import|url)\s*[=(]?\s*["']([^"']*)["']""", page)
    assert {target.partition(":")[0] for target in targets if ":" in target} == {"data"}
    links = [target for target in targets if ":" not in target and not target.startswith("#")]
    assert {Path(link).parent.as_posix() for link in links} == {".", "tables", "figures"}
    assert "@import" not in page


def test_claims_come_first_then_the_sections_in_their_order(page: str) -> None:
    headings = [html.unescape(heading) for heading in re.findall("<h2>(.*?)</h2>", page)]
    listed = [heading for heading in SECTIONS if heading in headings]
    last = ["What this study did not measure", "Caveats", "Settings", "Provenance"]
    assert headings == ["Claims", *listed, "Further tables", *last]
    assert "Set size" not in headings and "Accuracy" in listed
    assert len(re.findall('class="verdict good"', page)) == len(re.findall('class="verdict bad"', page)) == 4
    assert "1.06 [-2.25, 3.12]" in page and "random<br>-0.125 [-1, 0.5]" in page and "first &lt;part&gt;" in page


def test_the_head_has_every_verdict_as_it_stands_and_beside_length(page: str) -> None:
    head = page.partition('id="conclusions"')[2].partition("</section>")[0]
    rows = re.findall(
        r'<th scope="row"><a href="#(\w+)">.*?<td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>', head, re.DOTALL
    )
    plain = [[" ".join(re.sub("<.*?>|[✔✘?]", "", cell).split()) for cell in row] for row in rows]
    assert plain == [
        ["C1", "Statement of C1", "holds", "no control"],
        ["C2", "Statement of C2", "does not hold", "undecided"],
        ["L1", "Statement of L1", "undecided", "about length"],
    ]
    assert "<b>Is it length?</b> Statement of L1 (L1): undecided." in head


def test_rules_of_a_table_without_models_stand_side_by_side(page: str) -> None:
    grid = section(page, "Is it length?").partition("</table>")[0]
    heads = re.findall('<th scope="col">(.*?)</th>', grid)
    assert heads == ["benchmark", "orientation", "task", *RULES]
    cells = re.findall("<td>(.*?)</td>", grid)[: len(heads)]
    assert cells == ["own", "helpful", "helpful-base", "0.0", "0.5", "1.0", "1.5", "2.0"]


def test_every_table_and_figure_is_there_once(page: str) -> None:
    images = re.findall(r'alt="Figure (\S+), page (\d) of 2\..*?"><script type="application/gzip">(.*?)</script>', page)
    assert sorted((name, number) for name, number, _ in images) == sorted(product(FIGURES, "12"))
    second = {json.loads(gzip.decompress(base64.b64decode(image))) for _, number, image in images if number == "2"}
    [root] = map(ElementTree.fromstring, second)
    assert (root.attrib["width"], root.attrib["height"]) == (f"{150 * PAGE_WIDTH:.0f}", "300")
    for name in TABLES:
        assert ("Table official is empty" if name == "official" else f'"tables/{name}.parquet"') in page
    assert "Table novel" in section(page, "Further tables") and "unheard-of" in section(page, "Further tables")
    kept, ablated = (embedded(section(page, h))[0] for h in ("Retention and agreement", "Retention under ablation"))
    assert len(kept["rows"]) + len(ablated["rows"]) == len(TABLES["retention"])


def test_what_the_mixed_one_falls_short_by_stands_in_the_open(page: str) -> None:
    """Its own accuracy, and the gap, beside what a patch or a repair changes."""
    places = {"Repairs: what helps": "repair", "Patching: what a part's activations bring back": "patching"}
    for (heading, name), figures in zip(places.items(), (["gap", "gain"], ["gap", "delta"]), strict=True):
        box = section(page, heading.replace("'", "&#39;")).partition("</table>")[0]
        heads = re.findall('<th scope="col">(.*?)</th>', box)
        assert '<details class="box" open>' in box and heads[-len(figures) :] == figures
        gap = TABLES[name]["gap_mean"][0]
        assert any(f"<td>{gap:+.{digits}f} [" in box for digits in (1, 2))


def test_every_exhibit_is_one_that_a_study_can_have() -> None:
    registries = [("analysis.tables", "TABLES"), ("analysis.tables", "DERIVED"), ("analysis.cards", "CARDS")]
    registries += [("analysis.data_cards", "DATA_CARDS"), ("analysis.answer_key", "ANSWER_KEY")]
    registries += [("analysis.holes", "HOLES"), ("report.figures", "FIGURES")]
    known = {name for registry in registries for name in registered(*registry)}
    listed = {exhibit.table for exhibits in (FOREMOST | SECTIONS).values() for exhibit in exhibits}
    assert known - listed == {"published", "claims", "holes"} and listed <= known


def test_sortable_rows_are_the_tables(page: str) -> None:
    data, _twins = embedded(shown(page, "Accuracy", "accuracy"))
    rows = TABLES["accuracy"].rows(named=True)
    for cells, row in zip(data["rows"], rows, strict=True):
        assert cells[:4] == [row["model"], row["regime"], row["orientation"], row["task"]]
        assert cells[4][0] == "{accuracy_mean:.1f} [{accuracy_low:.1f}, {accuracy_high:.1f}]".format(**row)
        assert cells[4][1] == pytest.approx(row["accuracy_mean"], rel=1e-5)
    assert data["numeric"] == [False] * 4 + [True] * 2


def test_means_over_models_stand_side_by_side(page: str) -> None:
    grid = shown(page, "Accuracy", "accuracy").partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall("<td>(.*?)</td>", line) for line in grid.splitlines() if "<td>" in line]
    for orientation, task, *found in cells:
        rows = TABLES["accuracy"].filter(model=OVERALL, orientation=orientation, task=html.unescape(task))
        assert [cell.partition(" ")[0] for cell in found] == [f"{mean:.1f}" for mean in rows["accuracy_mean"]]
    assert len(cells) == 6


def test_published_values_stand_under_their_table(page: str) -> None:
    assert ["61.5", 61.5] in embedded(shown(page, "Accuracy", "accuracy"))[1]["rows"][0]
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
    written = sortable(filled(table))
    assert written["titles"] == ["name", "n", "delta", "small", "p"]
    assert [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in written["rows"]] == [
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
