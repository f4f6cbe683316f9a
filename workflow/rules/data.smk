# Preference pairs of a regime, and benchmarks, as one kind of table each.


rule data:
    input:
        files=data_files,
        code=code("data.py"),
    output:
        expand(
            f"{RESULTS}/data/{{{{regime}}}}/{{split}}.parquet",
            split=["train", "validation", "test", "hygiene"],
        ),
    log:
        f"{RESULTS}/logs/data/{{regime}}.log",
    benchmark:
        f"{RESULTS}/benchmark/data/{{regime}}.tsv"
    priority: 2  # what is wrong with data shows first
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(code("data.py"), data_files, data=lambda wildcards: regime_data(study, wildcards.regime)),
    message:
        "Preference pairs of regime {wildcards.regime}"
    script:
        "../scripts/data.py"


rule benchmark_comparisons:
    input:
        files=benchmark_files,
        splits=benchmark_splits,
        code=benchmark_code,
    output:
        f"{RESULTS}/benchmarks/{{benchmark}}.parquet",
    log:
        f"{RESULTS}/logs/benchmarks/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/benchmark/benchmarks/{{benchmark}}.tsv"
    wildcard_constraints:
        benchmark="|".join(map(re.escape, OF_THEIR_OWN)) or "(?!)",
    priority: 2
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(
            benchmark_code,
            benchmark_files,
            benchmark=lambda wildcards: study.benchmarks[wildcards.benchmark].cached(study.hub_cache),
            data_root=study.data_root,
        ),
    message:
        "Comparisons of benchmark {wildcards.benchmark}"
    script:
        "../scripts/benchmark.py"
