# Every ablation of one reward model on one benchmark, the model loaded once.


def comparisons(wildcards):
    if study.benchmarks[wildcards.benchmark].kind == "regime-test":
        return f"{RESULTS}/data/{wildcards.regime}/test.parquet"
    return f"{RESULTS}/benchmarks/{wildcards.benchmark}.parquet"


def selected(wildcards):
    swept = wildcards.benchmark in study.ablation.sweep_benchmarks
    return rules.select.output[0] if swept else rules.select_sets.output[0]


rule evaluate:
    input:
        reward_model=f"{RESULTS}/reward_models/{RM}",
        comparisons=comparisons,
        selected=selected,
        code=code("evaluate.py"),
    output:
        # Kept while the job runs: scores whose fingerprint still holds are not computed again.
        update(f"{RESULTS}/scores/{RM}/{{benchmark}}.parquet"),
    params:
        ablations=lambda wildcards: study.ablations(wildcards.regime, wildcards.benchmark),
        budget=compute("inference_tokens"),
        threads=compute("threads"),
    log:
        f"{RESULTS}/logs/evaluate/{RM}/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/benchmark/evaluate/{RM}/{{benchmark}}.tsv"
    threads: compute("threads")
    resources:
        mem_mb=compute("mem_mb"),
        runtime=compute("runtime"),
        gpu=gpus,
    message:
        "Score {wildcards.benchmark} with {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/evaluate.py"
