# A reward model whose weights are the average of its parts', in the place of one that is trained.
ruleorder: adopt > merge > train


rule merge:
    input:
        parts=of_parts(REWARD_MODEL),
        code=code("merge.py"),
    output:
        REWARD_MODEL,
        PROVENANCE,
    log:
        f"{RESULTS}/logs/merge/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/merge/{RM}.tsv"
    wildcard_constraints:
        regime=of_method("merged"),
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(60),
    params:
        settings=settings(
            code("merge.py"),
            mixes=of_regime("mixes"),
            weights=of_regime("weights"),
            threads=compute("threads"),
        ),
    message:
        "Merge {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/merge.py"
