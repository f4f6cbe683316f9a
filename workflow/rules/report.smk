# One page that shows it all.


rule report_page:
    input:
        tables=expand(f"{RESULTS}/tables/{{table}}.parquet", table=TABLES),
        claims=rules.claims.output.parquet,
        figures=expand(f"{RESULTS}/figures/{{figure}}.png", figure=FIGURES),
        template=os.path.relpath(provenance.PACKAGE / "report.html.j2"),
        code=code("report_page.py"),
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report_page.log",
    benchmark:
        f"{RESULTS}/benchmark/report_page.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings(study=study.analysed()),
    message:
        "Report"
    script:
        "../scripts/report_page.py"
