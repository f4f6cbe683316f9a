# The paper's claims, each held against the tables.


rule claims:
    input:
        tables=rules.tables.output.parquet,
        published=[resource("paper/claims.csv"), resource("paper/tasks.csv")],
        code=code("claims.py"),
    output:
        page=report(
            f"{RESULTS}/claims.md",
            category="Claims",
            caption="../report/claims.rst",
        ),
        parquet=f"{RESULTS}/claims.parquet",
    log:
        f"{RESULTS}/logs/claims.log",
    benchmark:
        f"{RESULTS}/benchmark/claims.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings(study=study.analysed("data_root", "hub_cache")),
    message:
        "Claims"
    script:
        "../scripts/claims.py"
