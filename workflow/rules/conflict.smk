# Gradients of two objectives in one reward model, neuron by neuron.


rule conflict:
    input:
        reward_model=REWARD_MODEL,
        pairs=objectives_pairs,
        code=code("conflict.py"),
    output:
        f"{RESULTS}/conflicts/{RM}.parquet",
    log:
        f"{RESULTS}/logs/conflict/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/conflict/{RM}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            code("conflict.py"),
            conflict=study.conflict,
            objectives=objectives,
            two=lambda wildcards: compared_objectives(study, wildcards.regime),
            max_tokens=study.training.max_tokens,
            budget=compute("training_tokens"),
            **ARITHMETIC,
        ),
    message:
        "Gradients of objectives in {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/conflict.py"
