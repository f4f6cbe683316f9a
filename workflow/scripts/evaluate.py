"""Every ablation of one reward model on one benchmark."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.base.files import read_table, remove_leftovers, write_parquet
from rmtension.data.comparisons import read_comparisons
from rmtension.engine.evaluation import evaluate, read_previous, scoring_fingerprint
from rmtension.engine.passes import Halfway
from rmtension.neurons.ranking import NO_SETS, SETS, STATISTICS, mean_values
from rmtension.study.study import VALIDATION

settings, code = snakemake.params.settings, [Path(file) for file in snakemake.input.code]
folder, comparisons = Path(snakemake.input.reward_model).parent, Path(snakemake.input.comparisons)
output, device = Path(snakemake.output[0]), start_torch(settings["threads"], settings["gpus"], settings["precision"])
activations, selected = snakemake.input.activations, snakemake.input.selected
halfway = Halfway(Path(settings["checkpoint"]), snakemake.resources.checkpoint_minutes)
how = settings["budget"], settings["threads"], settings["precision"], device
scores = evaluate(
    folder,
    read_comparisons(comparisons),
    read_table(selected, SETS) if selected else NO_SETS,
    ablations=settings["ablations"],
    previous=read_previous(output),
    inputs=scoring_fingerprint(folder, comparisons, code, *how),
    budget=settings["budget"],
    device=device,
    means=mean_values(read_table(activations, STATISTICS)) if activations else None,
    precision=settings["precision"],
    is_judged=snakemake.wildcards.benchmark != VALIDATION,
    halfway=halfway,
    place=str(comparisons),
)
write_parquet(scores, output)
remove_leftovers(halfway.file)
halfway.file.unlink(missing_ok=True)
job.finish(device)
