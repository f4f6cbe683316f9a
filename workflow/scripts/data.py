"""Every split of one regime's preference pairs, and what was odd about them."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.files import write_parquet
from rmtension.data.pairs import regime_pairs
from rmtension.study.data import RegimeData

tables = regime_pairs(RegimeData.model_validate(snakemake.params.settings["data"]))
for output in map(Path, snakemake.output):
    write_parquet(tables[output.stem], output)
job.finish()
