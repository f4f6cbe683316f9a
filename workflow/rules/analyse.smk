# Tables from all that the other stages have left, and figures from tables. A table or figure is named in its module
# alone: the registries there are read without importing them.
DATA_CARDS = provenance.registered("analysis.data_cards", "DATA_CARDS")
CARDS = provenance.registered("analysis.cards", "CARDS")
OF_RESULTS = [
    *provenance.registered("analysis.tables", "TABLES"),
    *provenance.registered("analysis.tables", "DERIVED"),
]
HOLES = provenance.registered("analysis.holes", "HOLES")
TABLES = [*DATA_CARDS, *CARDS, *KEY, *OF_RESULTS, *HOLES]
FIGURES = provenance.registered("report.figures", "FIGURES")
PATCHED = [
    file
    for regime, benchmark in patched_on(study)
    for file in reward_models(f"{RESULTS}/patched/{RM}/{benchmark}.parquet", [regime])
]
CONFLICTS = [
    file
    for regime in study.regimes
    if compared_objectives(study, regime)
    for file in reward_models(f"{RESULTS}/conflicts/{RM}.parquet", [regime])
]
RECKONED = yaml.safe_load(Path(resource("plan.yaml")).read_text(encoding="utf-8"))


CARDS_RESOURCES = [resource("tasks.csv"), resource("paper/tasks.csv")]
RESULTS_RESOURCES = [resource("official.csv"), resource("tasks.csv"), *published()]

NOT_OF_CARDS = ["neurons", "ablation", "explore", "analysis", *([] if study.standing else ["activations"])]


# The first tables: of pairs and benchmarks, before anything is trained.
rule data_cards:
    input:
        data=expand(
            f"{RESULTS}/data/{{regime}}/{{split}}.parquet",
            regime=study.regimes,
            split=["train", "validation", "test"],
        ),
        benchmarks=expand(f"{RESULTS}/benchmarks/{{benchmark}}.parquet", benchmark=OF_THEIR_OWN),
        code=code("data_cards.py"),
    output:
        report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=DATA_CARDS),
            category="Tables",
            caption="../report/table.rst",
        ),
        parquet=expand(f"{RESULTS}/tables/{{table}}.parquet", table=DATA_CARDS),
        twins=expand(f"{RESULTS}/tables/{{table}}.{{form}}", table=DATA_CARDS, form=["md", "tex"]),
    log:
        f"{RESULTS}/logs/data_cards.log",
    benchmark:
        f"{RESULTS}/benchmark/data_cards.tsv"
    priority: 2
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(
            code("data_cards.py"),
            study=study.analysed("data_root", "hub_cache", "training", "activations", *NOT_OF_CARDS),
        ),
    message:
        "Cards of data and benchmarks"
    script:
        "../scripts/data_cards.py"


rule cards:
    input:
        backbones=expand(BACKBONE, model=study.models),
        reward_models=reward_models(PROVENANCE, study.regimes),
        data=expand(
            f"{RESULTS}/data/{{regime}}/{{split}}.parquet",
            regime=study.regimes,
            split=["train", "validation", "test", "hygiene"],
        ),
        benchmarks=expand(f"{RESULTS}/benchmarks/{{benchmark}}.parquet", benchmark=OF_THEIR_OWN),
        # They say how many pairs they took.
        activations=reward_models(f"{RESULTS}/activations/{RM}.parquet") if study.standing else [],
        resources=CARDS_RESOURCES,
        code=code("cards.py"),
    output:
        report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=CARDS),
            category="Tables",
            caption="../report/table.rst",
        ),
        parquet=expand(f"{RESULTS}/tables/{{table}}.parquet", table=CARDS),
        twins=expand(f"{RESULTS}/tables/{{table}}.{{form}}", table=CARDS, form=["md", "tex"]),
    log:
        f"{RESULTS}/logs/cards.log",
    benchmark:
        f"{RESULTS}/benchmark/cards.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(
            code("cards.py"),
            CARDS_RESOURCES,
            study=study.analysed("data_root", "hub_cache", *NOT_OF_CARDS),
        ),
    message:
        "Cards of models, training, hygiene and compute"
    script:
        "../scripts/cards.py"


rule tables:
    input:
        scores=expand(
            reward_models(f"{RESULTS}/scores/{RM}/{{{{benchmark}}}}.parquet", study.regimes),
            benchmark=scored_on(study),
        ),
        activations=reward_models(f"{RESULTS}/activations/{RM}.parquet"),
        neurons=reward_models(f"{RESULTS}/neurons/{RM}.parquet"),
        sets=reward_models(f"{RESULTS}/selected/{RM}/sets.parquet"),
        selected=reward_models(f"{RESULTS}/selected/{RM}.parquet"),
        set_activations=reward_models(f"{RESULTS}/set_activations/{RM}.parquet"),
        # What says how many pairs each has seen.
        provenance=reward_models(PROVENANCE, study.regimes if study.repaired() else []),
        # How loud the neurons are that training held fixed.
        frozen=[
            f"{RESULTS}/selected/{m}/{regime}/seed-{seed}/frozen.parquet" for m, regime, seed in matched_frozen(study)
        ],
        patched=PATCHED,
        conflicts=CONFLICTS,
        words=expand(f"{RESULTS}/words/{{regime}}.parquet", regime=study.plain_regimes()),
        lengths=expand(f"{RESULTS}/lengths/{{model}}.parquet", model=study.models),
        resources=RESULTS_RESOURCES,
        code=code("tables.py"),
    output:
        report(
            expand(f"{RESULTS}/tables/{{table}}.csv", table=OF_RESULTS),
            category="Tables",
            caption="../report/table.rst",
        ),
        parquet=expand(f"{RESULTS}/tables/{{table}}.parquet", table=OF_RESULTS),
        twins=expand(f"{RESULTS}/tables/{{table}}.{{form}}", table=OF_RESULTS, form=["md", "tex"]),
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmark/tables.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=tables_memory,
        runtime=120,
    params:
        settings=settings(
            code("tables.py"), RESULTS_RESOURCES, study=study.analysed("data_root", "hub_cache", "explore")
        ),
    message:
        "Tables"
    script:
        "../scripts/tables.py"


rule figures:
    input:
        tables=expand(f"{RESULTS}/tables/{{table}}.parquet", table=[*DATA_CARDS, *CARDS, *OF_RESULTS]),
        claims=f"{RESULTS}/claims.parquet",
        code=code("figures.py"),
    output:
        report(
            expand(f"{RESULTS}/figures/{{figure}}.png", figure=FIGURES),
            category="Figures",
            caption="../report/figure.rst",
        ),
        vector=expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=FIGURES),
        pages=expand(f"{RESULTS}/figures/{{figure}}.svg", figure=FIGURES),
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmark/figures.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(code("figures.py"), figures=study.figures, analysis=study.analysis),
    message:
        "Figures"
    script:
        "../scripts/figures.py"
