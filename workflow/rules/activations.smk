# Streaming statistics of every neuron and attention head, trained and, where there is one, base backbone side by side.

ACTIVATIONS_CODE = code("activations.py", *(["engine.stable"] if study.standing else []))


rule activations:
    input:
        reward_model=REWARD_MODEL,
        backbone=base,
        pairs=f"{RESULTS}/data/{{regime}}/train.parquet",
        code=ACTIVATIONS_CODE,
    output:
        neurons=f"{RESULTS}/activations/{RM}.parquet",
        heads=f"{RESULTS}/activations/{RM}/heads.parquet",
    log:
        f"{RESULTS}/logs/activations/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/activations/{RM}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            ACTIVATIONS_CODE,
            activations=study.activations,
            standing=study.standing,
            max_tokens=study.training.max_tokens,
            budget=compute("inference_tokens"),
            **ARITHMETIC,
        ),
    message:
        "Activation statistics of {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/activations.py"
