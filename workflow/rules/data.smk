# Preference pairs of a regime, and benchmarks, as one kind of table each.


rule data:
    input:
        code=code("data.py"),
    output:
        expand(f"{RESULTS}/data/{{{{regime}}}}/{{split}}.parquet", split=["train", "validation", "test"]),
    params:
        data=lambda wildcards: settings(study.regime_data(wildcards.regime)),
    log:
        f"{RESULTS}/logs/data/{{regime}}.log",
    benchmark:
        f"{RESULTS}/benchmark/data/{{regime}}.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "Preference pairs of regime {wildcards.regime}"
    script:
        "../scripts/data.py"


rule benchmark_comparisons:
    input:
        code=code("benchmark.py"),
    output:
        f"{RESULTS}/benchmarks/{{benchmark}}.parquet",
    params:
        benchmark=lambda wildcards: settings(study.benchmarks[wildcards.benchmark]),
        data_root=study.data_root,
    log:
        f"{RESULTS}/logs/benchmarks/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/benchmark/benchmarks/{{benchmark}}.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "Comparisons of benchmark {wildcards.benchmark}"
    script:
        "../scripts/benchmark.py"
