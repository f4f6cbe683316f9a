# Tables from all scores and rankings, and figures from tables.
TABLES = [
    "benchmark_accuracy",
    "accuracy",
    "retention",
    "ablation_curve",
    "own_ablation",
    "shared_ablation",
    "depth",
]
FIGURES = [
    "accuracy",
    "retention",
    "ablation_curve",
    "own_ablation",
    "shared_ablation",
    "depth",
]


rule tables:
    input:
        scores=expand(
            reward_models(f"{RESULTS}/scores/{RM}/{{{{benchmark}}}}.parquet"),
            benchmark=study.benchmarks,
        ),
        neurons=reward_models(f"{RESULTS}/neurons/{RM}.parquet"),
        code=code("tables.py"),
    output:
        report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),
            category="Tables",
            caption="../report/table.rst",
        ),
        parquet=expand(f"{RESULTS}/tables/{{table}}.parquet", table=TABLES),
        twins=expand(f"{RESULTS}/tables/{{table}}.{{form}}", table=TABLES, form=["md", "tex"]),
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmark/tables.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        study=study.analysed(),
    message:
        "Tables"
    script:
        "../scripts/tables.py"


rule figures:
    input:
        tables=expand(f"{RESULTS}/tables/{{figure}}.parquet", figure=FIGURES),
        code=code("figures.py"),
    output:
        report(
            expand(f"{RESULTS}/figures/{{figure}}.png", figure=FIGURES),
            category="Figures",
            caption="../report/figure.rst",
        ),
        vector=expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=FIGURES),
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmark/figures.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        figures=settings(study.figures),
    message:
        "Figures"
    script:
        "../scripts/figures.py"
