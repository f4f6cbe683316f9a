# A reward model that was trained elsewhere, in the place of one that is trained here.
ruleorder: adopt > train


rule adopt:
    input:
        backbone=BACKBONE,
        files=adopted_files,
        code=code("adopt.py"),
    output:
        REWARD_MODEL,
        PROVENANCE,
    log:
        f"{RESULTS}/logs/adopt/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/adopt/{RM}.tsv"
    wildcard_constraints:
        # Exactly those that the study names.
        model=f"(?=(?:{'|'.join(map(re.escape, ADOPTED)) or '(?!)'})/)[^/]+",
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(60),
    params:
        settings=settings(code("adopt.py"), adopted_files, folder=adopted, threads=compute("threads")),
    message:
        "Adopt {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/adopt.py"
