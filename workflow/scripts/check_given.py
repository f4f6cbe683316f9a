"""Check and link one reward model that is given."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.engine.given_models import give_reward_model
from rmtension.study.models import GivenModel

settings = snakemake.params.settings
start_torch(settings["threads"])
source = GivenModel.model_validate(settings["source"])
give_reward_model(source, settings["data_root"], Path(snakemake.output[0]).parent)
job.finish()
