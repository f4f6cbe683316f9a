"""What single neurons of one reward model read and do."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import arithmetic, start_torch
from rmtension.base.files import read_table, write_parquet
from rmtension.data.comparisons import draw, read_comparisons
from rmtension.engine.passages import explore_neurons
from rmtension.neurons.ranking import RANKINGS, SETS
from rmtension.neurons.strongest import strongest

settings, inputs = snakemake.params.settings, snakemake.input
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
ranked, selected = read_table(inputs.neurons, RANKINGS), read_table(inputs.selected, SETS)
with arithmetic(settings["precision"], device):
    found = explore_neurons(
        Path(inputs.reward_model).parent,
        draw(read_comparisons(Path(inputs.pairs)), settings["pairs"], settings["seed"]),
        strongest(ranked, selected, settings["sets"], settings["neurons"]),
        settings["passages"],
        budget=settings["budget"],
        device=device,
        place=inputs.pairs,
    )
write_parquet(found.passages, Path(snakemake.output.passages))
write_parquet(found.scores, Path(snakemake.output.scores))
job.finish(device)
