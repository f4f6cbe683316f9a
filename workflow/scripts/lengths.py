"""Lengths of all candidates in one backbone's tokens."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.files import write_parquet
from rmtension.data.comparisons import read_judged
from rmtension.engine.lengths import lengths
from rmtension.engine.reading import load_backbone_reader

reader = load_backbone_reader(Path(snakemake.input.backbone).parent)
comparisons = read_judged(snakemake.params.settings["judged"])
write_parquet(lengths(reader, comparisons), Path(snakemake.output[0]))
job.finish()
