# The sets of neurons to be ablated in a reward model. Sets of one size stand apart from the sweep over sizes, so that
# another percentile leaves alone the benchmarks on which nothing is swept.


def neurons_of(regimes):
    """Ranked neurons of the given regimes' reward models of the same model and seed, as named inputs."""
    return {regime: f"{RESULTS}/neurons/{{model}}/{regime}/seed-{{seed}}.parquet" for regime in regimes}


def needed_neurons(wildcards):
    return neurons_of([wildcards.regime, *study.regimes[wildcards.regime].mixes])


rule select_sets:
    input:
        unpack(needed_neurons),
        code=code("select_sets.py"),
    output:
        f"{RESULTS}/selected/{RM}/sets.parquet",
    params:
        mixes=lambda wildcards: study.regimes[wildcards.regime].mixes,
        scorings=study.neurons.scorings,
        scoring=study.ablation.scoring,
        percent=study.ablation.percent,
    log:
        f"{RESULTS}/logs/select_sets/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/select_sets/{RM}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "Oriented sets for {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/select_sets.py"


rule select:
    input:
        sets=rules.select_sets.output[0],
        neurons=rules.neurons.output[0],
        code=code("select.py"),
    output:
        f"{RESULTS}/selected/{RM}.parquet",
    params:
        scorings=study.neurons.scorings,
        sweep=study.ablation.sweep,
    log:
        f"{RESULTS}/logs/select/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/select/{RM}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "All sets for {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/select.py"
