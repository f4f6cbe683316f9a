"""Cards of the pairs and the benchmarks, in all forms."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.analysis.data_cards import data_cards
from rmtension.analysis.presentation import write_table
from rmtension.study.study import Study

folder = Path(snakemake.output.parquet[0]).parents[1]
tables = data_cards(folder, Study.model_validate(snakemake.params.settings["study"]))
for path in map(Path, snakemake.output.parquet):
    write_table(tables[path.stem], path)
job.finish()
