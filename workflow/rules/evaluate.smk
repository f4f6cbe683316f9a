# Every ablation of one reward model on one benchmark, the model loaded once.


rule evaluate:
    input:
        reward_model=REWARD_MODEL,
        comparisons=lambda wildcards: comparisons_of(wildcards.regime, wildcards.benchmark),
        selected=selected,
        activations=means,
        code=code("evaluate.py"),
    output:
        # Kept while the job runs: scores whose fingerprint still holds are not computed again.
        update(f"{RESULTS}/scores/{RM}/{{benchmark}}.parquet"),
    log:
        f"{RESULTS}/logs/evaluate/{RM}/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/benchmark/evaluate/{RM}/{{benchmark}}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
        # No param: nothing is computed anew for it.
        checkpoint_minutes=compute("checkpoint_minutes"),
    params:
        settings=settings(
            code("evaluate.py"),
            ablations=lambda wildcards: ablated_sets(study, wildcards.regime, wildcards.benchmark),
            budget=compute("inference_tokens"),
            **ARITHMETIC,
            checkpoint=lambda wildcards: f"{RESULTS}/checkpoints/scores/{RM}/{{benchmark}}.pt".format(**wildcards),
        ),
    message:
        "Score {wildcards.benchmark} with {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/evaluate.py"
