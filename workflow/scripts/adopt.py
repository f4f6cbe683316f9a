"""Check and link one reward model that was trained elsewhere."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.base.environment import environment
from rmtension.engine.adoption import adopt_reward_model

settings = snakemake.params.settings
start_torch(settings["threads"])
adopt_reward_model(
    Path(settings["folder"]),
    Path(snakemake.input.backbone).parent,
    Path(snakemake.output[0]).parent,
    environment(),
)
job.finish()
