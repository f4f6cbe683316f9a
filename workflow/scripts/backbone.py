"""One backbone as a Hugging Face folder."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from pydantic import TypeAdapter

from rmtension.base.device import start_torch
from rmtension.base.files import replacing
from rmtension.engine.backbones import prepare_backbone, require_sizes
from rmtension.study.models import BackboneSource

settings = snakemake.params.settings
start_torch(settings["threads"])
source = TypeAdapter(BackboneSource).validate_python(settings["source"])
with replacing(Path(snakemake.output[0]).parent) as folder:
    prepare_backbone(source, settings["data_root"], folder)
    # As the study file has them, and not of the settings: another size, or a scoring more, makes no other backbone.
    asked = snakemake.config.get("ablation", {})
    sweep = asked.get("sweep", []) if asked.get("sweep_benchmarks") else []
    require_sizes(folder, snakemake.wildcards.model, asked.get("percent", 10), sweep)
job.finish()
