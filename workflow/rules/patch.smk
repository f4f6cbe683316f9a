# A mixed reward model reads one benchmark with activations of its parts' written in, all three loaded once.


rule patch:
    input:
        reward_model=REWARD_MODEL,
        donors=of_parts(REWARD_MODEL),
        comparisons=lambda wildcards: comparisons_of(wildcards.regime, wildcards.benchmark),
        selected=rules.select_sets.output[0],
        code=code("patch.py"),
    output:
        f"{RESULTS}/patched/{RM}/{{benchmark}}.parquet",
    log:
        f"{RESULTS}/logs/patch/{RM}/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/benchmark/patch/{RM}/{{benchmark}}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            code("patch.py"),
            donors=of_regime("mixes"),
            sets=lambda wildcards: [one.name for one in compared_sets(study, wildcards.regime)],
            budget=compute("inference_tokens"),
            **ARITHMETIC,
        ),
    message:
        "Patch {wildcards.model}, {wildcards.regime}, seed {wildcards.seed} on {wildcards.benchmark}"
    script:
        "../scripts/patch.py"
