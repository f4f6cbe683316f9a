"""The report of the study as one page."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.provenance import environment, settings_hash
from rmtension.report import write_report
from rmtension.study import Study

tables = {path.stem: pl.read_parquet(path) for path in map(Path, snakemake.input.tables)}
figures = {path.stem: path for path in map(Path, snakemake.input.figures)}
study = Study.model_validate(snakemake.params.study)
claims = pl.read_parquet(snakemake.input.claims)
provenance = {"study": settings_hash(study.analysed())} | environment()
write_report(Path(snakemake.output[0]), study, tables, claims, figures, provenance)
job.finish()
