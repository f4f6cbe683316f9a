"""Put one reward model that is given where one of its regime's would be."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.environment import environment
from rmtension.engine.given_models import put_reward_model

folder, output = Path(snakemake.input.given).parent, Path(snakemake.output[0]).parent
put_reward_model(folder, output, snakemake.params.settings["given"], environment())
job.finish()
