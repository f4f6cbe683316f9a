# One reward model: model x regime x seed.


rule train:
    input:
        backbone=BACKBONE,
        train=f"{RESULTS}/data/{{regime}}/train.parquet",
        # The split that chooses the checkpoint.
        validation=f"{RESULTS}/data/{{regime}}/{study.training.select_on}.parquet",
        frozen=frozen,
        code=code("train.py"),
    output:
        REWARD_MODEL,
        PROVENANCE,
    log:
        f"{RESULTS}/logs/train/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/train/{RM}.tsv"
    priority: 1  # most jobs wait for one
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=compute("gpus"),
        # No param: nothing is computed anew for it.
        checkpoint_minutes=compute("checkpoint_minutes"),
    params:
        settings=settings(
            code("train.py"),
            training=study.training,
            epochs=of_regime("epochs"),
            budget=compute("training_tokens"),
            threads=compute("threads"),
            gpus=compute("gpus"),
            sharded=compute("sharded"),
            method=of_regime("method"),
            parts=lambda wildcards: (
                study.regimes[wildcards.regime].mixes if wildcards.regime in study.repairs() else []
            ),
            # Of each pair, where gradients are taken apart.
            objectives=lambda wildcards: (
                objectives_of_sources(study, wildcards.regime)
                if study.regimes[wildcards.regime].method == "projected"
                else {}
            ),
            checkpoint=lambda wildcards: f"{RESULTS}/checkpoints/{RM.format(**wildcards)}.pt",
        ),
    message:
        "Train {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/train.py"
