"""The report of the study as one page."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.environment import environment
from rmtension.base.files import read_table, read_tables
from rmtension.report.page import write_report
from rmtension.running.provenance import settings_hash
from rmtension.study.study import Study

tables = read_tables(snakemake.input.tables)
figures = {path.stem: path for path in map(Path, snakemake.input.figures)}
study = Study.model_validate(snakemake.params.settings["study"])
claims = read_table(snakemake.input.claims)
provenance = {"study": settings_hash(study.analysed())} | environment()
write_report(Path(snakemake.output[0]), study, tables, claims, figures, provenance)
job.finish()
