"""The comparisons of one benchmark."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from pydantic import TypeAdapter

from rmtension.base.files import write_parquet
from rmtension.data.benchmarks import read_benchmark
from rmtension.study.benchmarks import Benchmark

settings = snakemake.params.settings
benchmark = TypeAdapter(Benchmark).validate_python(settings["benchmark"])
comparisons = read_benchmark(snakemake.wildcards.benchmark, benchmark, settings["data_root"])
write_parquet(comparisons, Path(snakemake.output[0]))
job.finish()
