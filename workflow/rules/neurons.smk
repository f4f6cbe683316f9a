# Every neuron and attention head of a reward model, ranked by every scoring.


rule neurons:
    input:
        activations=rules.activations.output.neurons,
        heads=rules.activations.output.heads,
        attributions=attributions,
        code=code("neurons.py"),
    output:
        f"{RESULTS}/neurons/{RM}.parquet",
    log:
        f"{RESULTS}/logs/neurons/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/neurons/{RM}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        settings=settings(
            code("neurons.py"),
            neurons=study.neurons,
            # What matched-random is matched to.
            target=study.ablation.scoring if "matched-random" in study.neurons.scorings else "",
        ),
    message:
        "Rank the neurons of {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/neurons.py"
