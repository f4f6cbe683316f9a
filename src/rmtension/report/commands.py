"""The commands that write and check texts on results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmtension.base.errors import UserError


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
    figures = [page.parent / "figures" / f"{page.stem}-{name}.png" for name in FIGURES]
    with reading(page):
        is_own = page.exists() and MADE in page.read_text(encoding="utf-8", errors="replace")
    for file in [page, *figures]:
        if file.exists() and not is_own:
            raise UserError(f"{file}: not written by `rmtension report`; name another page, or move it away")


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
    write_page(page, read, results or Path("results") / read.name)
    print(f"written: {page}")
