"""Every figure of the study, as pdf and png."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.figures import make_figures, write_figure
from rmtension.study import Analysis, Figures

settings = Figures.model_validate(snakemake.params.figures)
analysis = Analysis.model_validate(snakemake.params.analysis)
tables = {path.stem: pl.read_parquet(path) for path in map(Path, [*snakemake.input.tables, snakemake.input.claims])}
folder = Path(snakemake.output.vector[0]).parent
for name, figure in make_figures(tables, settings, analysis).items():
    write_figure(figure, folder / name, settings.dpi)
job.finish()
