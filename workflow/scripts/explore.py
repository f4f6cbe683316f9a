"""One page in which comparisons and neurons of the study are looked at, one by one."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.analysis.explorer import comparisons_and_scores
from rmtension.analysis.explorer_neurons import neurons_blocks
from rmtension.report.explorer import write_explorer
from rmtension.study.study import Study

page, settings = Path(snakemake.output[0]), snakemake.params.settings
study = Study.model_validate(settings["study"] | {"figures": settings["figures"]})
blocks = comparisons_and_scores(page.parent, study, settings["judged"]) | neurons_blocks(page.parent, study)
write_explorer(page, study, blocks)
job.finish()
