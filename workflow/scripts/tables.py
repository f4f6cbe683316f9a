"""Every table of the study, in all its forms."""

from rmtension import jobs

jobs.start(snakemake.log[0])

from itertools import product
from pathlib import Path

from rmtension.study import Study
from rmtension.tables import load_neurons, load_scores, make_tables, write_table

study = Study.model_validate(snakemake.params.study)
reward_models = list(product(study.models, study.regimes, study.seeds))
score_keys = [(*rm, benchmark) for rm in reward_models for benchmark in study.benchmarks]
scores = load_scores(dict(zip(score_keys, map(Path, snakemake.input.scores), strict=True)))
neurons = load_neurons(dict(zip(reward_models, map(Path, snakemake.input.neurons), strict=True)))
tables = make_tables(scores, neurons, study)
for path in map(Path, snakemake.output.parquet):
    write_table(tables[path.stem], path)
