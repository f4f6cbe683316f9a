# One page that shows it all.


PAGE_TEMPLATE = os.path.relpath(provenance.PACKAGE / "report" / "page.html.j2")


rule report_page:
    input:
        tables=expand(f"{RESULTS}/tables/{{table}}.parquet", table=TABLES),
        claims=rules.claims.output.parquet,
        figures=expand(f"{RESULTS}/figures/{{figure}}.svg", figure=FIGURES),
        template=PAGE_TEMPLATE,
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
        settings=settings(code("report_page.py"), [PAGE_TEMPLATE], study=study.analysed()),
    message:
        "Report"
    script:
        "../scripts/report_page.py"
