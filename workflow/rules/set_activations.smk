# How active a reward model's sets are in each text of its own test split.


rule set_activations:
    input:
        reward_model=REWARD_MODEL,
        pairs=f"{RESULTS}/data/{{regime}}/test.parquet",
        selected=rules.select_sets.output[0],
        code=code("set_activations.py"),
    output:
        f"{RESULTS}/set_activations/{RM}.parquet",
    log:
        f"{RESULTS}/logs/set_activations/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/set_activations/{RM}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            code("set_activations.py"),
            sets=observed_sets(study),
            is_signed=study.neurons.magnitude == "mean",
            budget=compute("inference_tokens"),
            **ARITHMETIC,
        ),
    message:
        "Sets in the test pairs of {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/set_activations.py"
