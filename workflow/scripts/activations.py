"""Activation statistics of one reward model and its base."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from functools import partial
from importlib import import_module
from pathlib import Path

from rmtension.base.device import arithmetic, start_torch
from rmtension.base.files import write_parquet
from rmtension.engine.activations import activation_statistics, reward_model_statistics
from rmtension.study.stages import Activations

settings = snakemake.params.settings
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
chosen, statistics_of = Activations.model_validate(settings["activations"]), activation_statistics
if standing := settings["standing"]:  # by name, so that what ranks neurons is read by no other studies' statistics
    stable = import_module("rmtension.engine.stable")
    statistics_of = partial(stable.stable_statistics, stable.Standing(**standing), chosen.seed)
with arithmetic(settings["precision"], device):
    statistics = reward_model_statistics(
        Path(snakemake.input.reward_model).parent,
        Path(snakemake.input.backbone).parent if snakemake.input.backbone else None,
        Path(snakemake.input.pairs),
        settings=chosen,
        max_tokens=settings["max_tokens"],
        budget=settings["budget"],
        device=device,
        statistics_of=statistics_of,
    )
write_parquet(statistics.neurons, Path(snakemake.output.neurons))
write_parquet(statistics.heads, Path(snakemake.output.heads))
job.finish(device)
