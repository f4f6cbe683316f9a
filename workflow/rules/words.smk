# A rule without a model: the words that tell a regime's chosen texts from its rejected ones, and all candidates' scores by them.


rule words:
    input:
        train=f"{RESULTS}/data/{{regime}}/train.parquet",
        validation=f"{RESULTS}/data/{{regime}}/validation.parquet",
        comparisons=sum(JUDGED.values(), []),
        code=code("words.py"),
    output:
        f"{RESULTS}/words/{{regime}}.parquet",
    log:
        f"{RESULTS}/logs/words/{{regime}}.log",
    benchmark:
        f"{RESULTS}/benchmark/words/{{regime}}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=by_attempt(3000),
        runtime=by_attempt(30),
    params:
        settings=settings(code("words.py"), judged=JUDGED),
    message:
        "Scores by the words of regime {wildcards.regime}"
    script:
        "../scripts/words.py"
