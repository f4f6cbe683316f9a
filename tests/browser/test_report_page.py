"""The report in a real browser: what no look at its source can tell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from example_page import FIGURES, TABLES, write_example
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from rmtension.study.naming import OVERALL

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_example(tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM)


@pytest.fixture
def page(browser: Browser, report: str) -> Iterator[Page]:
    """The report, opened without a network; at the end, nothing must have been fetched or have gone wrong."""
    page = browser.new_context(offline=True).new_page()
    fetched: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.goto(report)
    page.locator("body[data-ready]").wait_for()
    yield page
    page.context.close()
    assert [url for url in fetched if not url.startswith(("data:", "blob:"))] == [report]
    assert wrong == []


def opened(page: Page, name: str) -> Locator:
    """The box of a sortable table, with the table made."""
    box = page.locator("details.data").filter(has_text=f"Table {name}, all rows")
    box.locator("summary").click()
    box.locator("tbody tr").first.wait_for()
    return box


def column(box: Locator, index: int) -> list[str]:
    return box.locator(f"tbody td:nth-child({index})").all_inner_texts()


def test_every_image_is_one(page: Page) -> None:
    shown = page.eval_on_selector_all("img", "images => images.map(i => [i.complete, i.naturalWidth, i.alt.length])")
    assert len(shown) == 2 * len(FIGURES)
    assert all(complete and width > 100 and alt > 20 for complete, width, alt in shown)


def test_an_svg_shows_what_the_png_does(browser: Browser, report: str) -> None:
    svg = Path(unquote(urlsplit(report).path)).with_name("image.svg")
    with Image.open(svg.with_suffix(".png")) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    height, width, _ = expected.shape
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(svg.as_uri())
    shown = np.asarray(Image.open(BytesIO(page.screenshot())).convert("RGB")).astype(int)
    assert shown.shape == expected.shape
    ink = expected.min(axis=2) < 128
    assert ink.mean() > 0.005 and np.abs(shown - expected).mean() < 1
    assert np.abs(shown - expected)[ink].mean() < 60, "a line may lie half a pixel off"


def test_headings_and_names_are_in_order(page: Page) -> None:
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "headings => headings.map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    assert page.evaluate("document.documentElement.lang") == "en"
    ids = page.eval_on_selector_all("[id]", "named => named.map(n => n.id)")
    assert len(ids) == len(set(ids))
    links = page.eval_on_selector_all("nav a", "links => links.map(l => l.hash.slice(1))")
    assert set(links) <= set(ids) and len(links) > 10


def test_a_click_on_a_head_sorts_by_number(page: Page) -> None:
    box = opened(page, "accuracy")
    box.locator("select").select_option("100")
    expected = TABLES["accuracy"].sort("accuracy_mean")["accuracy_mean"].to_list()
    for order in (expected, expected[::-1]):
        box.locator("thead th").nth(4).click()
        expect(box.locator("tbody td:nth-child(5)").first).to_contain_text(f"{order[0]:.1f} [")
        shown = [float(cell.partition(" ")[0]) for cell in column(box, 5)]
        assert shown == pytest.approx(order, abs=0.051)
        assert sorted(map(str, shown)) not in (list(map(str, shown)), list(map(str, shown[::-1]))), (
            "as words, otherwise"
        )


def test_search_and_choices_leave_what_is_asked_for(page: Page) -> None:
    box = opened(page, "accuracy")
    rows, search = box.locator("tbody tr"), box.locator("input[type=search]").first
    search.fill("average zebra")
    expect(rows).to_have_count(TABLES["accuracy"].filter(model="zebra", task="average").height)
    assert set(column(box, 1)) == {"zebra"} and set(column(box, 4)) == {"average"}
    search.fill("<tone>")
    expect(rows).to_have_count(18)
    assert set(column(box, 4)) == {"tact & <tone>"}, "what is written in a table is never taken for HTML"
    box.locator("thead th").first.locator(".dtcc-button_dropdown").click()
    page.locator(".dtcc-list-buttons button", has_text=OVERALL).click()
    expect(rows).to_have_count(6)
    assert set(column(box, 1)) == {OVERALL}


@pytest.mark.parametrize("width", [320, 375, 800, 1279, 1280, 1340, 1424, 1440])
def test_only_boxes_scroll_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate(OVERFLOW) == 0
    page.evaluate("document.querySelectorAll('details').forEach(box => { box.open = true; })")
    page.locator("details.data .dt-search").last.wait_for()
    assert page.evaluate(OVERFLOW) == 0
    wide = page.locator("details.data").filter(has_text="Table own_ablation, all rows").locator(".dt-layout-table")
    assert width > 1000 or wide.evaluate("box => [box, box.firstElementChild].some(b => b.scrollWidth > b.clientWidth)")


def test_print_shows_what_is_folded_and_no_controls(page: Page, tmp_path: Path) -> None:
    page.emulate_media(media="print")
    folded = page.locator("main details:not([open])")
    assert folded.count() > 5
    assert folded.first.locator("> :nth-child(2)").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert folded.count() == 0
    assert page.locator("details.data").count() == page.locator("details.data tbody tr:nth-child(1)").count()
    for control in (".contents", ".dt-search", ".dt-paging", ".dtcc"):
        assert not any(shown.is_visible() for shown in page.locator(control).all())
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert folded.count() > 5
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
