"""The paper's claims, judged by the study's tables."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.claims import ledger, ledger_markdown
from rmtension.files import read_tables, write_parquet, write_text
from rmtension.study import Study

tables = read_tables(snakemake.input.tables)
claims = ledger(tables, Study.model_validate(snakemake.params.settings["study"]))
write_parquet(claims, Path(snakemake.output.parquet))
write_text(ledger_markdown(claims), Path(snakemake.output.page))
job.finish()
