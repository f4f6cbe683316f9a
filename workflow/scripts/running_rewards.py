"""What one reward model would give responses if they ended behind each of their tokens."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import arithmetic, start_torch
from rmtension.base.files import write_parquet
from rmtension.data.comparisons import evenly, read_judged
from rmtension.engine.running_reward import judged_rewards

settings, folder = snakemake.params.settings, Path(snakemake.input.reward_model).parent
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
comparisons = evenly(read_judged(settings["judged"]), settings["seed"]).head(settings["running"])
with arithmetic(settings["precision"], device):
    found = judged_rewards(folder, comparisons, settings["budget"], device)
write_parquet(found, Path(snakemake.output[0]))
job.finish(device)
