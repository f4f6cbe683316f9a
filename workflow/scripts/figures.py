"""Every figure of the study, as pdf, svg and png."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.files import read_tables
from rmtension.base.forks import dealt, side_by_side
from rmtension.report.figures import make_figures, write_figure
from rmtension.study.stages import Analysis, Figures

settings = snakemake.params.settings
style, analysis = Figures.model_validate(settings["figures"]), Analysis.model_validate(settings["analysis"])
figures = dealt([Path(file).with_suffix("") for file in snakemake.output.vector])


def draw(_: int) -> None:
    tables = read_tables([*snakemake.input.tables, snakemake.input.claims])
    for figure in figures:
        [pages] = make_figures(tables, style, analysis, [figure.name]).values()
        write_figure(pages, figure, style.dpi)


side_by_side(snakemake.threads, draw)
job.finish()
