"""Scores of an ensemble of two reward models on everything that reward models are scored on."""

from rmtension.running import jobs

job = jobs.start(snakemake)

import json
from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.base.environment import environment
from rmtension.base.files import fingerprint, write_parquet, write_text
from rmtension.data.comparisons import read_comparisons
from rmtension.engine.ensemble import spread, together
from rmtension.engine.evaluation import evaluate, scoring_fingerprint
from rmtension.neurons.ranking import NO_SETS

settings, code = snakemake.params.settings, [Path(file) for file in snakemake.input.code]
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
how = settings["budget"], settings["threads"], settings["precision"], device
folders = [Path(file).parent for file in snakemake.input.parts]


def scores(folder, file, is_judged=True):
    inputs = scoring_fingerprint(folder, file, code, *how)
    how_scored = {"budget": settings["budget"], "precision": settings["precision"], "device": device}
    return evaluate(folder, read_comparisons(file), NO_SETS, ["none"], None, inputs, is_judged=is_judged, **how_scored)


of_validation = [scores(folder, Path(snakemake.input.validation), is_judged=False) for folder in folders]
spreads = [spread(frame, str(folder)) for frame, folder in zip(of_validation, folders, strict=True)]
for file, output in zip(snakemake.input.comparisons, snakemake.output.scores, strict=True):
    write_parquet(together([scores(folder, Path(file)) for folder in folders], spreads), Path(output))
origins = [fingerprint(Path(file)) for file in snakemake.input.parts]
provenance = {
    "method": "ensemble",
    "parts": settings["mixes"],
    "spreads": spreads,
    "origins": dict(zip(settings["mixes"], origins, strict=True)),
    "environment": environment(),
}
write_text(json.dumps(provenance, indent=2) + "\n", Path(snakemake.output.provenance))
job.finish(device)
