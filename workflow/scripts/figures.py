"""Every figure of the study, as pdf and png."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.figures import make_figures, write_figure
from rmtension.files import made_here, read_tables
from rmtension.study import Analysis, Figures

settings = Figures.model_validate(snakemake.params.figures)
analysis = Analysis.model_validate(snakemake.params.analysis)
tables = read_tables([*snakemake.input.tables, snakemake.input.claims])
folder = Path(snakemake.output.vector[0]).parent
with made_here(Path(snakemake.input.tables[0]).parent):
    for name, figure in make_figures(tables, settings, analysis).items():
        write_figure(figure, folder / name, settings.dpi)
job.finish()
