from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from test_tables import STUDY, TABLES

from rmtension.errors import UserError
from rmtension.figures import FIGURES, make_figures, write_figure
from rmtension.report import write_report
from rmtension.study import Figures

SETTINGS = Figures(dpi=40)
FIGURES_MADE = make_figures(TABLES, SETTINGS)


def test_curve_draws_the_table() -> None:
    axes = FIGURES_MADE["ablation_curve"].axes[1]
    assert axes.get_title() == "zebra\nharmless on own-test"
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    rows = TABLES["ablation_curve"].filter(model="zebra", regime="harmless", scoring="magnitude")
    assert np.array_equal(lines["magnitude"].get_xydata(), rows.select("percent", "accuracy_mean").to_numpy())
    looks = [(line.get_marker(), line.get_linestyle(), line.get_color()) for line in axes.get_lines()[1:]]
    assert all(len(set(kinds)) == len(looks) for kinds in zip(*looks, strict=True))


def test_heat_map_draws_the_table_and_is_centred_on_no_change() -> None:
    axes = FIGURES_MADE["shared_ablation"].axes[0]
    mesh = axes.collections[0]
    table = TABLES["shared_ablation"].filter(model="zebra")
    drawn = np.asarray(mesh.get_array()).reshape(5, 3)
    assert np.allclose(drawn.T.ravel(), table["delta_mean"])
    low, high = mesh.get_clim()
    assert low == -high
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "shared",
        "helpful-only",
        "harmless-only",
    ]


def test_dots_draw_the_table_beside_their_tasks() -> None:
    axes = FIGURES_MADE["accuracy"].axes[0]
    rows = TABLES["accuracy"].filter(model="zebra", regime="helpful")
    dots = axes.containers[0].lines[0]  # type: ignore[attr-defined]
    assert np.array_equal(dots.get_xdata(), rows["accuracy_mean"])
    assert np.array_equal(np.round(np.asarray(dots.get_ydata(), float)), range(5))
    assert axes.get_yticklabels()[2].get_text() == "mean of helpful tasks"


def test_bars_draw_the_table() -> None:
    axes = FIGURES_MADE["depth"].axes[0]
    late = [bar.get_height() for bar in axes.containers[-1] if hasattr(bar, "get_height")]
    rows = TABLES["depth"].filter(model="zebra", scoring="magnitude", third="late")
    assert late == rows["share_mean"].to_list()


def test_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    again = make_figures(TABLES, SETTINGS)
    for name in ("ablation_curve", "own_ablation"):
        write_figure(FIGURES_MADE[name], tmp_path / "first", SETTINGS.dpi)
        write_figure(again[name], tmp_path / "second", SETTINGS.dpi)
        for form in (".pdf", ".png"):
            assert (tmp_path / f"first{form}").read_bytes() == (tmp_path / f"second{form}").read_bytes()


def test_every_figure_stands_without_data() -> None:
    empty = {name: table.clear() for name, table in TABLES.items()}
    assert make_figures(empty, SETTINGS).keys() == FIGURES.keys()


def test_unknown_palette_is_named() -> None:
    with pytest.raises(UserError, match=r"figures\.palette.*'colourblind'"):
        make_figures(TABLES, Figures(palette="colourblind"))


def test_report_needs_no_other_file(tmp_path: Path) -> None:
    image = tmp_path / "figure.png"
    image.write_bytes(b"png")
    provenance = {"code": "<1>"}
    write_report(tmp_path / "report.html", STUDY, TABLES, dict.fromkeys(FIGURES, image), provenance)
    page = (tmp_path / "report.html").read_text()
    assert page.count(f'src="data:image/png;base64,{base64.b64encode(b"png").decode()}"') == len(FIGURES)
    assert page.count("src=") == len(FIGURES)
    assert not any(part in page for part in ("href=", "<script", "@import"))
    assert all(part in page for part in ("&lt;1&gt;", "Tact &amp; &lt;tone&gt;"))
    # Every task of three has one comparison of five unscored.
    assert all(part in page for part in ("3 of 15 on shared", "2 of 10 on own-test"))
