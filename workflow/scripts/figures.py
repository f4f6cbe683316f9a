"""Every figure of the study, as pdf and png."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.files import read_tables
from rmtension.report.figures import make_figures, write_figure
from rmtension.study.stages import Analysis, Figures

settings = snakemake.params.settings
style, analysis = Figures.model_validate(settings["figures"]), Analysis.model_validate(settings["analysis"])
tables = read_tables([*snakemake.input.tables, snakemake.input.claims])
folder = Path(snakemake.output.vector[0]).parent
for name, figure in make_figures(tables, style, analysis).items():
    write_figure(figure, folder / name, style.dpi)
job.finish()
