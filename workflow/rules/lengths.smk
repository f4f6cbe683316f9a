# How many tokens of its own every candidate has that a reward model is judged by.


rule lengths:
    input:
        backbone=BACKBONE,
        comparisons=sum(JUDGED.values(), []),
        code=code("lengths.py"),
    output:
        f"{RESULTS}/lengths/{{model}}.parquet",
    log:
        f"{RESULTS}/logs/lengths/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmark/lengths/{{model}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        settings=settings(code("lengths.py"), judged=JUDGED),
    message:
        "Lengths of all candidates in tokens of {wildcards.model}"
    script:
        "../scripts/lengths.py"
