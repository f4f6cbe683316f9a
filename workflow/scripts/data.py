"""Every split of one regime's preference pairs."""

from rmtension import jobs

jobs.start(snakemake.log[0])

from pathlib import Path

from rmtension.readers import SPLITS, regime_pairs
from rmtension.files import write_parquet
from rmtension.study import RegimeData

splits = regime_pairs(RegimeData.model_validate(snakemake.params.data))
for split, output in zip(SPLITS, snakemake.output, strict=True):
    write_parquet(splits[split], Path(output))
