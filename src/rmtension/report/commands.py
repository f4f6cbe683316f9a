"""The commands that write and check texts on results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmtension.base.errors import UserError

if TYPE_CHECKING:
    from rmtension.study.study import Study


def check(
    texts: Annotated[list[Path], typer.Argument(metavar="TEXT", help="Markdown, HTML, or LaTeX (.tex).")],
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the tables are; by default each text's own folder.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the right numbers in.")] = False,
) -> None:
    """Compare numbers in texts with the cells of tables that they are bound to.

    In Markdown and HTML a comment behind a number binds it, in LaTeX a macro. The decimals that a number has say how it
    is rounded.

    \b
    48.3 <!-- rmtension: tables/accuracy.parquet model="all models" regime=helpful task=average mean -->
    \\rmt{48.3}{tables/accuracy.parquet model="all models" regime=helpful task=average mean}

    Examples:

    \b
    rmtension check README.md docs/my-study.md
    rmtension check paper.tex --results results/my-study --write
    """
    from rmtension.report.bindings import check_text, write_checked

    checked = {text: check_text(text, results) for text in texts}
    for text, one in checked.items():
        if write and one.wrong:
            write_checked(text, one)
        for line in [*one.wrong, *one.faults]:
            print(line)
    every = checked.values()
    count, wrong = sum(one.count for one in every), sum(len(one.wrong) for one in every)
    faults = sum(len(one.faults) for one in every)
    if not count and not faults:
        raise UserError(f"no number is bound in {', '.join(map(str, texts))}; see rmtension check --help")
    put = ", put right" if write and wrong else ""
    print(f"numbers checked: {count}; wrong: {wrong}{put}; bindings that name no cell: {faults}")
    raise typer.Exit(1 if faults or (wrong and not write) else 0)


def refuse_others(page: Path) -> None:
    """UserError where a page or one of its figures would take the place of what `rmtension report` has not written."""
    from rmtension.base.files import reading
    from rmtension.report.figures import FIGURES
    from rmtension.report.markdown import MADE

    if page.is_dir():
        raise UserError(f"{page}: a folder; name the page to write")
    with reading(page):
        is_own = page.exists() and MADE in page.read_text(encoding="utf-8", errors="replace")
    if is_own:
        return
    advice = "name another page, or move it away"
    if page.exists():
        raise UserError(f"{page}: not written by `rmtension report`; {advice}")
    for figure in (page.parent / "figures" / f"{page.stem}-{name}.png" for name in FIGURES):
        if figure.exists():  # perhaps of a page whose name ends otherwise
            raise UserError(
                f"{figure}: there already, and of no page {page.name} that `rmtension report` wrote; {advice}"
            )


def made_with(results: Path) -> dict[str, list[str]]:
    """What finished results are of, as `asked_for` says it of a study; by tables, which may be all that was kept."""
    from rmtension.base.files import read_table

    names = ("models_card", "training_card", "benchmark_accuracy")
    models, trained, scored = (read_table(results / f"tables/{name}.parquet") for name in names)
    seeds = ", ".join(trained["seeds"]).split(", ")  # of each model and regime
    return {
        "models": [f"{name} ({kind})" for name, kind in models.select("model", "kind").rows()],
        "regimes": trained["regime"].unique(maintain_order=True).to_list(),
        "benchmarks": scored["benchmark"].unique(maintain_order=True).to_list(),
        "seeds": list(dict.fromkeys(seeds)),
    }


def asked_for(study: Study) -> dict[str, list[str]]:
    """Its models, each with its kind, and its regimes, benchmarks and seeds."""
    return {
        "models": [f"{name} ({model.source.kind})" for name, model in study.models.items()],
        "regimes": list(study.regimes),
        "benchmarks": list(study.benchmarks),
        "seeds": list(map(str, study.seeds)),
    }


def refuse_others_results(file: Path, study: Study, results: Path) -> None:
    """UserError where results are not of the study of a file, or it was changed since they were made."""
    from rmtension.study.section import listing

    asked = asked_for(study)
    for what, made in made_with(results).items():
        if {*made} != {*asked[what]}:
            differs = f"made with {what} {listing(made)}, but {file} says {listing(asked[what])}"
            raise UserError(f"{results}: {differs}: run the study first, or name its own results")


def report(
    study: Annotated[Path, typer.Argument(help="The file of a study that has run.")],
    page: Annotated[Path, typer.Argument(help="The Markdown page to write; its figures go into figures/ beside it.")],
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The study's results; by default results/NAME.")
    ] = None,
) -> None:
    """Write a finished study's report as a Markdown page whose numbers `rmtension check` holds against the tables.

    Examples:

    \b
    rmtension report config.yaml results/default/report.md
    rmtension report studies/mine.yaml docs/mine.md --results docs/results/mine
    """
    refuse_others(page)  # before its figures are written
    from rmtension.data.hub import read_finished
    from rmtension.report.markdown import write_page

    read = read_finished(study)
    folder = results or Path("results") / read.name
    refuse_others_results(study, read, folder)
    write_page(page, read, folder)
    print(f"written: {page}")
