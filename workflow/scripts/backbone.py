"""One backbone as a Hugging Face folder."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from pydantic import TypeAdapter

from rmtension.base.device import start_torch
from rmtension.base.files import replacing
from rmtension.engine.backbones import prepare_backbone, require_sizes
from rmtension.study.models import BackboneSource
from rmtension.study.scorings import Ablation

settings = snakemake.params.settings
start_torch(settings["threads"])
source = TypeAdapter(BackboneSource).validate_python(settings["source"])
with replacing(Path(snakemake.output[0]).parent) as folder:
    prepare_backbone(source, settings["data_root"], folder)
    # Not of the settings: another size makes no other backbone.
    require_sizes(folder, snakemake.wildcards.model, Ablation.model_validate(snakemake.config.get("ablation", {})))
job.finish()
