"""The comparisons of one benchmark."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from pydantic import TypeAdapter

from rmtension.base.files import write_parquet
from rmtension.data.benchmarks import all_tests, read_benchmark
from rmtension.study.benchmarks import AllTests, Benchmark

name, settings = snakemake.wildcards.benchmark, snakemake.params.settings
benchmark = TypeAdapter(Benchmark).validate_python(settings["benchmark"])
if isinstance(benchmark, AllTests):
    comparisons = all_tests(map(Path, snakemake.input.splits))
else:
    comparisons = read_benchmark(name, benchmark, settings["data_root"])
write_parquet(comparisons, Path(snakemake.output[0]))
job.finish()
