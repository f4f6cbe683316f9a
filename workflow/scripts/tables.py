"""Every table of the study but its cards, in all forms."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.analysis.presentation import write_table
from rmtension.analysis.results import load_results
from rmtension.analysis.tables import make_tables
from rmtension.study.study import Study

folder = Path(snakemake.output.parquet[0]).parents[1]
results = load_results(folder, Study.model_validate(snakemake.params.settings["study"]))
tables = make_tables(results)
for path in map(Path, snakemake.output.parquet):
    write_table(tables[path.stem], path)
job.finish()
