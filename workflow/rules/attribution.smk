# What every neuron and attention head adds to the margin of pairs, to first order: of the pairs of `activations`.


rule attribution:
    input:
        reward_model=REWARD_MODEL,
        pairs=f"{RESULTS}/data/{{regime}}/train.parquet",
        code=code("attribution.py"),
    output:
        f"{RESULTS}/attributions/{RM}.parquet",
    log:
        f"{RESULTS}/logs/attribution/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/attribution/{RM}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            code("attribution.py"),
            activations=study.activations,
            max_tokens=study.training.max_tokens,
            # Activations are kept for a backward pass, as in training.
            budget=compute("training_tokens"),
            **ARITHMETIC,
        ),
    message:
        "Attributions of {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/attribution.py"
