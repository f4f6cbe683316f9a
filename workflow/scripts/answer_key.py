"""What scorings, ablations, patches and gradients say of reward models whose circuits are known."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.analysis.answer_key import ANSWER_KEY
from rmtension.analysis.presentation import write_table
from rmtension.base.device import start_torch
from rmtension.engine.answer_key import answer_key
from rmtension.engine.planted import Planted
from rmtension.study.scorings import Neurons

start_torch(1, 0)
key = answer_key(Planted.read(), Neurons.model_validate(snakemake.params.settings["neurons"]))
for path in map(Path, snakemake.output.parquet):
    write_table(ANSWER_KEY[path.stem](key), path)
job.finish()
