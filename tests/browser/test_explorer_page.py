"""The explorer in a real browser: filters, links, keys, a phone, and the numbers that it shows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest
from example_explorer import OWN, STUDY, blocks, write_example
from playwright.sync_api import Browser, Page, expect, sync_playwright

from rmtension.report.explorer import write_explorer

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
MODEL, SEED = next(iter(STUDY.models)), STUDY.seeds[0]
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("explorer"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM)


class Opened:
    """The page in a window of its own."""

    def __init__(self, browser: Browser, file: Path, width: int) -> None:
        context = browser.new_context(offline=True, viewport={"width": width, "height": 900})
        self.page, self.file = context.new_page(), file.as_uri()
        self.fetched: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text))

    def at(self, place: str = "") -> Page:
        self.page.goto("about:blank")
        self.page.goto(self.file + place)
        self.page.locator("body[data-ready]").wait_for()
        return self.page

    def close(self) -> None:
        """Nothing has been fetched or has gone wrong."""
        self.page.context.close()
        assert {url for url in self.fetched if url != "about:blank"} <= {self.file}
        assert self.wrong == []


@pytest.fixture(params=[1400, 380])
def anywhere(request: pytest.FixtureRequest, browser: Browser, explorer: Path) -> Iterator[Opened]:
    opened = Opened(browser, explorer, request.param)
    yield opened
    opened.close()


@pytest.fixture
def desk(browser: Browser, explorer: Path) -> Iterator[Opened]:
    opened = Opened(browser, explorer, 1400)
    yield opened
    opened.close()


def margins(explorer: Path, regime: str, seed: int = SEED, ablation: str = "none") -> dict[str, float]:
    """Of the own test, out of the files: lowest chosen less highest rejected reward."""
    frame = pl.read_parquet(explorer.parent / f"scores/{MODEL}/{regime}/seed-{seed}/own-test.parquet")
    chosen, rejected = (pl.col(f"{side}_scores").cast(pl.List(pl.Float64)).list for side in ("chosen", "rejected"))
    rows = frame.filter(ablation=ablation).select("comparison_id", chosen.min() - rejected.max())
    return dict(rows.rows())


def listed(page: Page) -> list[str]:
    """Ids of all comparisons in the list, which makes those in sight alone."""
    ids: dict[str, None] = {}
    while True:
        before = len(ids)
        for key in page.eval_on_selector_all("#list a", "links => links.map(link => link.dataset.key)"):
            ids[key.partition(":")[2]] = None
        page.eval_on_selector("#list-box", "box => { box.scrollTop += 500; }")
        page.evaluate("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
        if len(ids) == before:
            return list(ids)


def shown(page: Page) -> str:
    return page.locator("#title").inner_text()


def test_a_link_leads_to_its_comparison_with_its_numbers(anywhere: Opened, explorer: Path) -> None:
    page = anywhere.at(f"#c=own-test:helpful/test/3&seed={SEED}")
    assert shown(page) == "helpful/test/3"
    row = page.get_by_role("region", name="Rewards by regime").locator("tr", has_text="mixed")
    margin = margins(explorer, "mixed")["helpful/test/3"]
    assert row.locator("td").nth(1).inner_text() == f"{margin:+.3f}".replace("-", MINUS)
    absent = page.get_by_role("region", name="Rewards by regime").locator("tr", has_text="harmless")
    assert absent.locator("td").nth(1).inner_text() == "\N{EN DASH}"
    ablated = margins(explorer, "mixed", ablation="shared@mean")["helpful/test/3"]
    row = page.locator("tr").filter(has=page.locator("th", has_text=re.compile("^shared@mean$")))
    assert row.locator("td").nth(1).inner_text() == f"{ablated:+.3f}".replace("-", MINUS)
    texts = page.locator(".response").all_inner_texts()
    assert "helpful yes 3. word word word" in texts[0] and "no 3." in texts[1]
    assert page.locator(".prompt").inner_text().count("<b>bread</b> & butter “good”?") == 1
    assert page.evaluate(OVERFLOW) == 0


def test_small_margins_are_told_apart(browser: Browser, tmp_path: Path) -> None:
    page = write_example(tmp_path)
    smaller = [(pl.col(f"{side}_scores").list.eval(pl.element() / 1000)) for side in ("chosen", "rejected")]
    for file in (tmp_path / "scores").rglob("*.parquet"):
        pl.read_parquet(file).with_columns(smaller).write_parquet(file)
    write_explorer(page, STUDY, blocks(tmp_path))
    opened = Opened(browser, page, 1400)
    margin = margins(page, "mixed")["helpful/test/3"]
    row = opened.at(f"#c=own-test:helpful/test/3&seed={SEED}").get_by_role("region", name="Rewards by regime")
    shown = row.locator("tr", has_text="mixed").locator("td").nth(1).inner_text()
    assert float(shown.replace(MINUS, "-")) == pytest.approx(margin, abs=1e-5) and abs(margin) > 1e-4
    opened.close()


def test_the_mean_over_seeds_stands_beside_each(desk: Opened, explorer: Path) -> None:
    page = desk.at("#c=own-test:harmless/test/7&regime=harmless")
    cells = page.get_by_role("region", name="Rewards by regime").locator("tr.here td").all_inner_texts()
    each = [margins(explorer, "harmless", seed)["harmless/test/7"] for seed in STUDY.seeds]
    written = [f"{margin:+.3f}".replace("-", MINUS) for margin in (sum(each) / 3, *each)]
    assert cells[1] == written[0] and [cell.split()[0] for cell in cells[5:]] == written[1:]
    signs = [cell.split()[1] for cell in cells[5:]]
    assert signs == ["✔" if margin > 0 else "✘" for margin in each]


Margins = dict[str, dict[str, float]]
# What is asked of the own test -> whether an id fits, by the margins of regimes and of `mixed` without what is shared.
FILTERS: dict[str, Callable[[str, Margins], bool]] = {
    "orientation=harmless": lambda id_, _: id_.startswith("harmless"),
    "q=YES word 3.": lambda id_, _: id_.endswith("3"),
    "right=mixed,helpful": lambda id_, of: of["mixed"][id_] > 0 and of["helpful"].get(id_, -1) > 0,
    "wrong=mixed&right=harmless": lambda id_, of: of["mixed"][id_] <= 0 < of["harmless"].get(id_, -1),
    "longer=longer": lambda id_, _: int(id_.rpartition("/")[2]) > 14,
    "longer=neither": lambda id_, _: id_.endswith("/14"),
    "ablation=shared": lambda id_, of: (of["mixed"][id_] > 0) != (of["ablated"][id_] > 0),
    "ablation=shared&flips=lost": lambda id_, of: of["mixed"][id_] > 0 >= of["ablated"][id_],
    "q=nowhere": lambda *_: False,
}


@pytest.mark.parametrize("asked", FILTERS)
def test_filters_leave_what_fits(desk: Opened, explorer: Path, asked: str) -> None:
    page = desk.at(f"#seed={SEED}&benchmark=own-test&{asked}")
    known = {regime: margins(explorer, regime) for regime in STUDY.regimes}
    known["ablated"] = margins(explorer, "mixed", ablation="shared")
    expected = [id_ for rows in OWN.values() for id_, *_ in rows if FILTERS[asked](id_, known)]
    assert listed(page) == expected
    expect(page.locator("#nothing")).to_be_visible(visible=not expected)


def test_controls_filter_and_stand_in_the_address(desk: Opened, explorer: Path) -> None:
    page = desk.at()
    page.locator("#seed").select_option(str(SEED))
    page.locator("#filters summary").click()
    page.locator("#benchmark").select_option("own-test")
    expect(page.locator("#count")).to_have_text("60 of 63 comparisons")
    button = page.locator("#verdicts button", has_text="mixed")
    expect(button).to_have_attribute("aria-label", "mixed: any")
    button.click()
    right = sum(margin > 0 for margin in margins(explorer, "mixed").values())
    expect(page.locator("#count")).to_have_text(f"{right} of 63 comparisons")
    page.locator("#verdicts button", has_text="mixed").click()
    expect(page.locator("#count")).to_have_text(f"{60 - right} of 63 comparisons")
    assert unquote(page.url).endswith(f"#seed={SEED}&benchmark=own-test&wrong=mixed")
    page.reload()
    expect(page.locator("#count")).to_have_text(f"{60 - right} of 63 comparisons")
    page.locator("#clear").click()
    expect(page.locator("#count")).to_have_text("all 63 comparisons")


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("sort", ["margin", "less:helpful", "length"])
def test_sorting_is_by_number_and_what_has_none_is_last(desk: Opened, explorer: Path, sort: str, down: bool) -> None:
    page = desk.at(f"#seed={SEED}&benchmark=own-test&sort={sort}" + "&down=1" * down)
    mixed, helpful = margins(explorer, "mixed"), margins(explorer, "helpful")
    words = {
        id_: len(chosen.split()) - len(rejected.split()) for rows in OWN.values() for id_, chosen, rejected in rows
    }
    keys: dict[str, Mapping[str, float]] = {
        "margin": mixed,
        "less:helpful": {id_: mixed[id_] - margin for id_, margin in helpful.items()},
        "length": words,
    }
    order = list(words)
    known = sorted(keys[sort], key=lambda id_: (keys[sort][id_] * (-1 if down else 1), order.index(id_)))
    assert listed(page) == [*known, *(id_ for id_ in order if id_ not in keys[sort])]


def test_back_and_forward_go_from_comparison_to_comparison(anywhere: Opened) -> None:
    page = anywhere.at()
    first, second = page.locator("#list a").nth(0), page.locator("#list a").nth(1)
    first.click()
    assert shown(page) == "helpful/test/0"
    page.locator(".step", has_text="next").click()
    expect(page.locator("#title")).to_have_text("helpful/test/1")
    page.go_back()
    expect(page.locator("#title")).to_have_text("helpful/test/0")
    page.go_back()
    expect(page.locator("#title")).to_have_count(0)
    expect(second).to_be_visible()
    page.go_forward()
    expect(page.locator("#title")).to_have_text("helpful/test/0")


def test_keys_lead_through_the_list(desk: Opened) -> None:
    page = desk.at()
    for key, id_ in [("j", "0"), ("j", "1"), ("ArrowDown", "2"), ("k", "1"), ("ArrowUp", "0"), ("ArrowUp", "0")]:
        page.keyboard.press(key)
        expect(page.locator("#title")).to_have_text(f"helpful/test/{id_}")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("jk harmless")
    expect(page.locator("#nothing")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#q")).not_to_be_focused()
    assert shown(page) == "helpful/test/0"
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#title")).to_have_count(0)
    desk.at()
    for _ in range(40):
        page.keyboard.press("j")
    expect(page.locator("#title")).to_have_text("harmless/test/9")
    expect(page.locator("#list a.here")).to_be_in_viewport()


def test_rewards_along_a_response_can_be_pointed_at(desk: Opened, explorer: Path) -> None:
    page = desk.at("#c=own-test:helpful/test/4&regime=helpful")
    file = pl.read_parquet(explorer.parent / f"running_rewards/{MODEL}/helpful/seed-{SEED}.parquet")
    rows = file.filter(comparison_id="helpful/test/4").rows(named=True)
    strips = page.locator(".strips p")
    for strip, row in zip(strips.all(), rows, strict=True):
        assert strip.locator(".token").all_inner_texts() == row["tokens"]
    strips.first.locator(".token").nth(2).hover()
    chosen, rejected = (f"{row['rewards'][2]:.3f}".replace("-", MINUS) for row in rows)
    said = f"Token 3: chosen “4.” {chosen}, rejected “word” {rejected}."
    expect(page.locator(".readout")).to_have_text(said)
    expect(page.locator(".token.pointed")).to_have_count(2)
    chart = page.locator(".chart svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20)
    n = max(len(row["tokens"]) for row in rows)
    expect(page.locator(".readout")).to_contain_text(f"Token {n}: ")
    page.mouse.move(0, 0)
    ends = [row["rewards"][-1] for row in rows]
    ahead = "chosen" if ends[0] > ends[1] else "rejected"
    expect(page.locator(".readout")).to_contain_text(f"The {ahead} response is ahead")
    expect(page.locator(".readout")).to_contain_text(f"by {abs(ends[0] - ends[1]):.3f}.")


def test_neurons_show_what_they_read(anywhere: Opened, explorer: Path) -> None:
    page = anywhere.at("#n=")
    page.locator("#neuron-list a").first.click()
    name = re.fullmatch(r"Layer (\d+) · neuron (\d+)", shown(page))
    assert name is not None
    place = {"layer": int(name[1]), "neuron": int(name[2])}
    passages = pl.read_parquet(explorer.parent / f"passages/{MODEL}/mixed/seed-{SEED}.parquet").filter(**place)
    first = passages.filter(response="rejected", place=1).row(0, named=True)
    tokens = page.locator(".side.rejected .passages li").first.locator(".token")
    assert tokens.all_inner_texts() == [text.replace("\n", "↵") for text in first["tokens"]]
    values = [f"{value:+.3f}".replace("-", MINUS) for value in first["activations"]]
    assert [token.get_attribute("title") for token in tokens.all()] == values
    assert page.locator(".side.rejected mark").first.get_attribute("title") == values[first["peak"]]
    assert page.evaluate(OVERFLOW) == 0
    page.locator(".passages a").first.click()
    expect(page.locator("#title")).to_have_text("helpful/test/1")
    page.go_back()
    expect(page.locator("#title")).to_have_text(name[0])


def test_every_control_has_a_name_and_ids_are_there_once(anywhere: Opened) -> None:
    for place in ("#c=own-test:helpful/test/3", "#n="):
        page = anywhere.at(place)
        ids = page.eval_on_selector_all("[id]", "named => named.map(n => n.id)")
        assert len(ids) == len(set(ids))
        nameless = page.eval_on_selector_all(
            "button, select, input",
            "all => all.filter(c => !(c.ariaLabel || c.textContent.trim() && c.tagName === 'BUTTON'"
            " || [...(c.labels ?? [])].some(l => l.textContent.trim()))).map(c => c.outerHTML)",
        )
        assert [one for one in nameless if "hidden" not in one and 'id="down"' not in one] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_on_their_ground(browser: Browser, explorer: Path, scheme: str) -> None:
    """Contrast of at least 4.5 between each text and what is behind it."""
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    for place in ("#c=own-test:helpful/test/3&ablation=shared", f"#n={MODEL}/mixed"):
        page.goto("about:blank")
        page.goto(explorer.as_uri() + place)
        page.locator("body[data-ready]").wait_for()
        if place.startswith("#n"):
            page.locator("#neuron-list a").first.click()
        assert page.evaluate(CONTRAST) == []
    context.close()


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const ground = element => {
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, element.parentElement ? ground(element.parentElement) : [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const faint = [];
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const element = words.currentNode.parentElement;
    const isShown = words.currentNode.data.trim() && element.checkVisibility();
    if (!isShown || element.closest("option, :disabled, .off, script")) continue;
    const behind = ground(element), text = over(rgba(getComputedStyle(element).color), behind);
    const [high, low] = [light(behind), light(text)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) faint.push([words.currentNode.data.trim().slice(0, 30), contrast]);
  }
  return faint;
}"""
