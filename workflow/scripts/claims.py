"""All claims, judged by the study's tables, and what the study did not measure."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.analysis.holes import HOLES
from rmtension.analysis.ledger import ledger, ledger_markdown
from rmtension.analysis.presentation import write_table
from rmtension.base.files import read_tables, write_parquet, write_text
from rmtension.study.study import Study

tables, study = read_tables(snakemake.input.tables), Study.model_validate(snakemake.params.settings["study"])
claims = ledger(tables, study)
write_parquet(claims, Path(snakemake.output.parquet))
write_text(ledger_markdown(claims), Path(snakemake.output.page))
for path in map(Path, snakemake.output.holes):
    write_table(HOLES[path.stem](study, tables, claims), path)
job.finish()
