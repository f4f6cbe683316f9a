"""Scores of an ensemble of two reward models on everything that reward models are scored on."""

from rmtension.running import jobs

job = jobs.start(snakemake)

import json
from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.base.environment import environment
from rmtension.base.files import write_parquet, write_text
from rmtension.engine.ensemble import score_ensemble

settings, code = snakemake.params.settings, [Path(file) for file in snakemake.input.code]
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
parts = {regime: Path(file).parent for regime, file in zip(settings["mixes"], snakemake.input.parts, strict=True)}
files, validation = [Path(file) for file in snakemake.input.comparisons], Path(snakemake.input.validation)
how = settings["budget"], settings["threads"], settings["precision"], device
scores, made = score_ensemble(parts, files, validation, code, *how)
for frame, output in zip(scores, snakemake.output.scores, strict=True):
    write_parquet(frame, Path(output))
write_text(json.dumps(made | {"environment": environment()}, indent=2) + "\n", Path(snakemake.output.provenance))
job.finish(device)
