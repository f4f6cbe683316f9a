# A reward model that is given: looked at once in the place of a backbone, then in all places of those that are trained here.
ruleorder: check_given > backbone
ruleorder: put_given > adopt > merge > train


rule check_given:
    input:
        files=backbone_files,
        code=code("check_given.py"),
    output:
        BACKBONE,
    log:
        f"{RESULTS}/logs/check_given/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmark/check_given/{{model}}.tsv"
    wildcard_constraints:
        model=of_given(),
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(60),
    params:
        settings=settings(
            code("check_given.py"),
            backbone_files,
            source=lambda wildcards: study.models[wildcards.model].source.cached(study.hub_cache),
            data_root=study.data_root,
            threads=compute("threads"),
        ),
    message:
        "Check {wildcards.model}"
    script:
        "../scripts/check_given.py"


rule put_given:
    input:
        given=rules.check_given.output[0],
        code=code("put_given.py"),
    output:
        REWARD_MODEL,
        PROVENANCE,
    log:
        f"{RESULTS}/logs/put_given/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/put_given/{RM}.tsv"
    wildcard_constraints:
        model=of_given(),
    conda:
        "../../envs/model.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings(
            code("put_given.py"),
            given=given,
        ),
    message:
        "{wildcards.model} for {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/put_given.py"
