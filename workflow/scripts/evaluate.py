"""Every ablation of one reward model on one benchmark."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.comparisons import as_comparisons
from rmtension.device import start_torch
from rmtension.evaluation import evaluate, scoring_fingerprint
from rmtension.files import write_parquet

params, code = snakemake.params, [Path(file) for file in snakemake.input.code]
folder, comparisons = Path(snakemake.input.reward_model).parent, Path(snakemake.input.comparisons)
output, device = Path(snakemake.output[0]), start_torch(params.threads, params.gpus)
scores = evaluate(
    folder,
    as_comparisons(pl.read_parquet(comparisons)),
    pl.read_parquet(snakemake.input.selected),
    ablations=params.ablations,
    previous=pl.read_parquet(output) if output.exists() else None,
    inputs=scoring_fingerprint(folder, comparisons, code, params.budget, params.threads),
    budget=params.budget,
    device=device,
)
write_parquet(scores, output)
job.finish(device)
