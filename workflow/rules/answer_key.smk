# The reason why a scoring or an ablation is believed: what it says of reward models whose circuits are known.
KEY = provenance.registered("analysis.answer_key", "ANSWER_KEY")


rule answer_key:
    input:
        planted=resource("planted.yaml"),
        code=code("answer_key.py"),
    output:
        report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=KEY),
            category="Tables",
            caption="../report/table.rst",
        ),
        parquet=expand(f"{RESULTS}/tables/{{table}}.parquet", table=KEY),
        twins=expand(f"{RESULTS}/tables/{{table}}.{{form}}", table=KEY, form=["md", "tex"]),
    log:
        f"{RESULTS}/logs/answer_key.log",
    benchmark:
        f"{RESULTS}/benchmark/answer_key.tsv"
    # Nothing but pages that come last shows it: done while tables and figures leave cores idle.
    priority: -1
    conda:
        "../../envs/model.yaml"
    resources:
        mem_mb=by_attempt(1500),
        runtime=by_attempt(10),
    params:
        settings=settings(
            code("answer_key.py"),
            [resource("planted.yaml")],
            # Every scoring is tried; of the study's own choice it takes what `magnitude` is.
            neurons={"magnitude": study.neurons.magnitude},
        ),
    message:
        "Answer key: what is found where the truth is known"
    script:
        "../scripts/answer_key.py"
