# The sets of neurons and heads to be ablated in a reward model. Sets of one size stand apart from the sweep over sizes, so that
# another percentile leaves alone the benchmarks on which nothing is swept.


rule select_sets:
    input:
        neurons=rules.neurons.output[0],
        parts=of_parts(rules.neurons.output[0]),
        activations=rules.activations.output.neurons,
        code=code("select_sets.py"),
    output:
        f"{RESULTS}/selected/{RM}/sets.parquet",
    log:
        f"{RESULTS}/logs/select_sets/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/select_sets/{RM}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        settings=settings(
            code("select_sets.py"),
            scorings=study.neurons.scorings,
            percent=study.ablation.percent,
            draws=study.ablation.control_draws,
            random_seed=study.neurons.random_seed,
            tension=tension,
        ),
    message:
        "Oriented sets for {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/select_sets.py"


rule select:
    input:
        sets=rules.select_sets.output[0],
        neurons=rules.neurons.output[0],
        code=code("select_swept.py"),
    output:
        f"{RESULTS}/selected/{RM}.parquet",
    log:
        f"{RESULTS}/logs/select/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/select/{RM}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(10),
    params:
        settings=settings(code("select_swept.py"), scorings=study.neurons.scorings, sweep=study.ablation.sweep),
    message:
        "All sets for {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/select_swept.py"


# Before its reward model: what the parts' neurons say that its training leaves as it is.
rule select_frozen:
    input:
        neurons=of_parts(rules.neurons.output[0]),
        activations=of_parts(rules.activations.output.neurons),
        code=code("select_frozen.py"),
    output:
        f"{RESULTS}/selected/{RM}/frozen.parquet",
    log:
        f"{RESULTS}/logs/select_frozen/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/select_frozen/{RM}.tsv"
    wildcard_constraints:
        regime=of_method("frozen"),
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        settings=settings(
            code("select_frozen.py"),
            frozen=of_regime("frozen"),
            mixes=of_regime("mixes"),
            scoring=study.ablation.scoring,
            percent=study.ablation.percent,
        ),
    message:
        "What training leaves as it is in {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/select_frozen.py"
