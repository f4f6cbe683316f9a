"""The report in Markdown, of a trained and of a given study: every figure on it is bound, and to the right cell."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from example_given import GIVEN, OF_GIVEN, cards
from example_results import CAUSES, SETTINGS, STUDY, example
from typer.testing import CliRunner

from rmtension.analysis.holes import holes_table
from rmtension.analysis.ledger import ledger
from rmtension.analysis.tables import make_tables
from rmtension.base.errors import UserError
from rmtension.cli import app
from rmtension.data.hub import read_finished
from rmtension.report.commands import refuse_others, refuse_others_results
from rmtension.report.markdown import fewest, write_page
from rmtension.study.naming import OVERALL, UNORIENTED
from rmtension.study.study import Study

TRAINING = {"method": "joint", "steps": 133.5, "train_pairs": 1069.0, "train_left_out": 3.0,
            "kept_step": 40.0, "kept_loss": 0.60149, "kept_accuracy": 67.97}  # fmt: skip

ROOT = Path(__file__).parents[3]
COMMITTED = sorted(ROOT.glob("docs/results/*/claims.parquet"))


def write_results(study: Study, folder: Path) -> None:
    tables = make_tables(example(study))
    claims = ledger(tables, study)
    tables |= cards(study) | {"holes": holes_table(study, tables, claims)}
    tables["benchmark_accuracy"] = tables["benchmark_accuracy"].with_columns(n_unscored=pl.lit(2.0))
    if not study.given:
        trained = [pl.lit(value).alias(name) for name, value in TRAINING.items()]
        tables["training_card"] = tables["training_card"].with_columns(trained)
        tables["models_card"] = tables["models_card"].with_columns(kind=pl.lit("made"))
    (folder / "tables").mkdir(parents=True)
    for name, table in tables.items():
        table.write_parquet(folder / f"tables/{name}.parquet")
    claims.write_parquet(folder / "claims.parquet")


@pytest.fixture(scope="module", params=[STUDY, GIVEN], ids=["trained", "given"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("page")
    write_results(request.param, folder / "results/mine")
    write_page(folder / "docs/mine.md", request.param, folder / "results/mine")
    return request.param, folder / "docs/mine.md"


def check(page: Path) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["check", str(page)], catch_exceptions=False)
    return result.exit_code, result.stdout.splitlines()


NUMBER = r"[-+]?[\d,]+(?:\.\d+)?(?:e-\d+)?"
BOUND = re.compile(rf"({NUMBER})(?: \[({NUMBER}), ({NUMBER})\])? <!-- rmtension: .*? -->")


def test_every_figure_is_bound_and_is_its_cell(written: tuple[Study, Path]) -> None:
    text = written[1].read_text()
    numbers = [number for found in BOUND.findall(text) for number in found if number]
    assert check(written[1]) == (0, [f"numbers checked: {len(numbers)}; wrong: 0; bindings that name no cell: 0"])
    assert len(numbers) > 300 and not re.findall(r"\d\.\d", BOUND.sub("", text))


def test_figures_stand_where_they_are_said_to(written: tuple[Study, Path]) -> None:
    study, page = written
    folder, lines = page.parents[1] / "results/mine", html.unescape(BOUND.sub(r"\1", page.read_text())).splitlines()
    rows = pl.read_parquet(folder / "tables/accuracy.parquet")
    across = "model" if study.given else "regime"
    rows = rows.filter((pl.col("model") == OVERALL) != study.given)
    surface = pl.read_parquet(folder / "tables/surface.parquet")
    head = next(line for line in lines if line.startswith("| orientation | task | ") and line.endswith("a model |"))
    names = rows[across].unique(maintain_order=True)
    assert head == f"| orientation | task | {' | '.join(names)} | comparisons | best rule without a model |"
    for (orientation, task), of in rows.group_by("orientation", "task", maintain_order=True):
        start = f"| {orientation} | {task} | {' | '.join(f'{mean:z.1f}' for mean in of['accuracy_mean'])} | "
        (line,) = [line for line in lines if line.startswith(start)]
        rules = surface.filter(orientation=orientation, task=task).drop_nulls("accuracy_mean")
        if rules["benchmark"].n_unique() == 1:  # of a task of two, the accuracy beside it is that of both
            [comparisons] = rules["n_comparisons"].unique()
            assert line.startswith(f"{start}{comparisons} | ")
            assert line.endswith(f", {rules['accuracy_mean'].sort()[-1]:.1f} |")
        else:
            assert line.removeprefix(start).split() == ["|", "|"]
    for claim in (
        pl.read_parquet(folder / "claims.parquet").filter(pl.col("part") != "").drop_nulls("estimate")["claim"]
    ):
        assert any(line.startswith(f"| {claim} | ") for line in lines)
    assert ("How far training got" in page.read_text()) != study.given
    assert any("the largest count left out by any model and regime was 2 of " in line for line in lines)


def test_own_tests_alone_are_enough(tmp_path: Path) -> None:
    study = Study.model_validate(SETTINGS | {"benchmarks": {"own-test": {"kind": "regime-test"}}, "seeds": [7]})
    write_results(study, tmp_path / "results/mine")
    write_page(tmp_path / "mine.md", study, tmp_path / "results/mine")
    page = (tmp_path / "mine.md").read_text()
    assert "## On each test split" in page and "| None |" not in page


def test_benchmarks_whose_tasks_are_in_no_average_have_a_section(written: tuple[Study, Path], tmp_path: Path) -> None:
    study, page = written
    heading = "## On benchmarks without an orientation\n"
    assert heading not in page.read_text()
    folder = shutil.copytree(page.parents[1] / "results/mine", tmp_path / "results/mine")
    card = pl.read_parquet(folder / "tables/benchmarks_card.parquet")
    nowhere = pl.when(benchmark="two").then(pl.lit(UNORIENTED)).otherwise("orientation")
    card.with_columns(orientation=nowhere).write_parquet(folder / "tables/benchmarks_card.parquet")
    write_page(tmp_path / "mine.md", study, folder)
    section = BOUND.sub(r"\1", (tmp_path / "mine.md").read_text().split(heading)[1].split("\n## ")[0])
    rows = pl.read_parquet(folder / "tables/benchmark_accuracy.parquet").filter(benchmark="two")
    rows = rows.filter((pl.col("model") == OVERALL) != study.given)
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "| two |" in line]
    assert [float(line[-4]) for line in shown] == [round(mean, 1) for mean in rows["accuracy_mean"]] != []


def test_pictures_are_there(written: tuple[Study, Path]) -> None:
    curve = "ablation_curve_by_model" if written[0].given else "ablation_curve"
    figures = re.findall(r"^!\[.+\]\((.+)\)$", written[1].read_text(), flags=re.MULTILINE)
    assert figures == ["figures/mine-surface.png", f"figures/mine-{curve}.png"]
    assert all((written[1].parent / figure).stat().st_size > 10_000 for figure in figures)


def test_the_same_results_give_the_same_bytes(written: tuple[Study, Path]) -> None:
    study, page = written
    files = [page, *sorted((page.parent / "figures").iterdir())]
    before = [file.read_bytes() for file in files]
    write_page(page, study, page.parents[1] / "results/mine")
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    ("other", "fault"),
    {
        "mine.md": "not written by `rmtension report`",
        "figures/mine-surface.png": r"there already, and of no page mine\.md that `rmtension report` wrote",
    }.items(),
)
def test_what_it_has_not_written_is_not_replaced(
    other: str, fault: str, written: tuple[Study, Path], tmp_path: Path
) -> None:
    file = tmp_path / other
    file.parent.mkdir(exist_ok=True)
    file.write_text("years of work; see what is made by `rmtension report` from the study's results")
    with pytest.raises(UserError, match=f"^{file}: {fault}; name another page, or move it away$"):
        CliRunner().invoke(app, ["report", "study.yaml", str(tmp_path / "mine.md")], catch_exceptions=False)
    assert [place for place in tmp_path.rglob("*") if place.is_file()] == [file]
    refuse_others(written[1])


def test_figures_of_another_page_are_not_replaced(written: tuple[Study, Path]) -> None:
    """As of one whose name ends otherwise: it is not said that they are someone else's."""
    page = written[1]
    fault = (
        r"mine-surface\.png: there already, and of no page mine\.txt that `rmtension report` wrote; name another page"
    )
    with pytest.raises(UserError, match=fault):
        refuse_others(page.with_suffix(".txt"))


# What is another in a study file than in the one that ran -> the change, and what the file then says.
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "models": ({"models": {"zebra": SETTINGS["models"]["zebra"]}}, "zebra (made)"),
    "regimes": (
        {"regimes": SETTINGS["regimes"] | {"again": SETTINGS["regimes"]["mixed"]}},
        "helpful, harmless, mixed, again",
    ),
    "benchmarks": (
        {"benchmarks": SETTINGS["benchmarks"] | {"three": SETTINGS["benchmarks"]["two"]}},
        "own-test, one, two, three",
    ),
    "seeds": ({"seeds": [9]}, "9"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_results_of_another_study_are_no_report_of_this_one(
    what: str, written: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a study file was changed since it ran."""
    monkeypatch.chdir(tmp_path)
    (study, page), (change, said) = written, OTHERS[what]
    Path("s.yaml").write_text(json.dumps(SETTINGS | (OF_GIVEN if study.given else CAUSES) | change))
    results, kind = page.parents[1] / "results/mine", "given" if study.given else "made"
    made = {"models": [f"{name} ({kind})" for name in study.models], "regimes": study.regimes,
            "benchmarks": study.benchmarks, "seeds": map(str, study.seeds)}  # fmt: skip
    with pytest.raises(UserError) as raised:
        CliRunner().invoke(app, ["report", "s.yaml", "mine.md", "--results", str(results)], catch_exceptions=False)
    start, end = (
        f"{results}: made with {what} ",
        f", but s.yaml says {said}: run the study first, or name its own results",
    )
    message = str(raised.value)
    assert message.startswith(start) and message.endswith(end)
    assert {*message.removeprefix(start).removesuffix(end).split(", ")} == {*made[what]}
    assert not Path("mine.md").exists()


def test_results_of_a_study_are_a_report_of_it(
    written: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study, page = written
    Path("s.yaml").write_text(json.dumps(SETTINGS | (OF_GIVEN if study.given else CAUSES)))
    results = str(page.parents[1] / "results/mine")
    CliRunner().invoke(app, ["report", "s.yaml", "mine.md", "--results", results], catch_exceptions=False)
    bound = re.compile("<!-- .*? -->")  # where tables lie, as seen from the page
    assert bound.sub("", Path("mine.md").read_text()) == bound.sub("", page.read_text())


@pytest.mark.parametrize("claims", COMMITTED, ids=lambda file: file.parent.name)
def test_committed_results_are_of_their_study(claims: Path) -> None:
    file = ROOT / f"studies/{claims.parent.name}.yaml"
    refuse_others_results(file, read_finished(file), claims.parent)


def test_a_table_that_is_changed_or_gone_is_told(written: tuple[Study, Path]) -> None:
    study, page = written
    file = page.parents[1] / "results/mine/tables/accuracy.parquet"
    table = pl.read_parquet(file)
    table.with_columns(pl.col("accuracy_mean") + 1).write_parquet(file)
    bound = page.read_text().count("tables/accuracy.parquet")
    try:
        status, said = check(page)
        assert status == 1 and len(said) == bound + 1 and all(str(page) in line for line in said[:-1])
        file.unlink()
        status, said = check(page)
        assert status == 1 and len(said) == bound + 1 and "no such table" in said[0]
        with pytest.raises(UserError, match=r"accuracy\.parquet: no such file; run the stage"):
            write_page(page, study, page.parents[1] / "results/mine")
    finally:
        table.write_parquet(file)


def test_a_binding_has_the_fewest_keys_that_tell_rows_apart() -> None:
    table = pl.DataFrame(
        {"model": ["m", "m", "m"], "regime": ["a", "a", "b"], "task": ["x", "y", "x"], "set": ["s"] * 3}
    )
    assert fewest(table, ["model", "regime", "task", "set"]) == ["regime", "task"]
    assert fewest(table[:1], ["model", "regime"]) == ["model"]
