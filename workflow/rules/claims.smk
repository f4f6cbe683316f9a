# The claims, each held against the tables, and what the study did not measure.


CLAIMS_RESOURCES = [*RESULTS_RESOURCES, resource("paper/claims.csv"), resource("length.csv")]


rule claims:
    input:
        tables=rules.tables.output.parquet,
        resources=CLAIMS_RESOURCES,
        code=code("claims.py"),
    output:
        page=report(
            f"{RESULTS}/claims.md",
            category="Claims",
            caption="../report/claims.rst",
        ),
        parquet=f"{RESULTS}/claims.parquet",
        csv=report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=HOLES),
            category="Tables",
            caption="../report/table.rst",
        ),
        holes=expand(f"{RESULTS}/tables/{{table}}.parquet", table=HOLES),
        twins=expand(f"{RESULTS}/tables/{{table}}.{{form}}", table=HOLES, form=["md", "tex"]),
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
        settings=settings(
            code("claims.py"), CLAIMS_RESOURCES, study=study.analysed("data_root", "hub_cache", "explore")
        ),
    message:
        "Claims"
    script:
        "../scripts/claims.py"
