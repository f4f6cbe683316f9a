"""Scores of all candidates by the words that one regime prefers."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.analysis.words import word_scores
from rmtension.base.files import write_parquet
from rmtension.data.comparisons import read_comparisons, read_judged

train, validation = (read_comparisons(Path(file)) for file in (snakemake.input.train, snakemake.input.validation))
judged = read_judged(snakemake.params.settings["judged"])
write_parquet(word_scores(train, validation, judged), Path(snakemake.output[0]))
job.finish()
