# What two reward models say together, scored in the place of one that is trained: of a regime that has no model.
ruleorder: ensemble > evaluate
ruleorder: ensemble > train


rule ensemble:
    input:
        parts=of_parts(REWARD_MODEL),
        # Whose margins are the unit of each part's rewards.
        validation=f"{RESULTS}/data/{{regime}}/validation.parquet",
        comparisons=lambda wildcards: [comparisons_of(wildcards.regime, name) for name in scored_on(study)],
        code=code("ensemble.py"),
    output:
        scores=[f"{RESULTS}/scores/{RM}/{name}.parquet" for name in scored_on(study)],
        provenance=PROVENANCE,
    log:
        f"{RESULTS}/logs/ensemble/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/ensemble/{RM}.tsv"
    wildcard_constraints:
        regime=of_method("ensemble"),
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            code("ensemble.py"),
            mixes=of_regime("mixes"),
            budget=compute("inference_tokens"),
            **ARITHMETIC,
        ),
    message:
        "Score everything with {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/ensemble.py"
