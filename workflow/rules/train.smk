# One reward model: model x regime x seed.


rule train:
    input:
        backbone=BACKBONE,
        train=f"{RESULTS}/data/{{regime}}/train.parquet",
        # The split that chooses the checkpoint.
        validation=f"{RESULTS}/data/{{regime}}/{study.training.select_on}.parquet",
        code=code("train.py"),
    output:
        REWARD_MODEL,
    log:
        f"{RESULTS}/logs/train/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/train/{RM}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=compute("mem_mb"),
        runtime=compute("runtime"),
        gpu=gpus,
    params:
        training=study.training.model_dump(mode="json", exclude={"checkpoint_interval"}),
        epochs=lambda wildcards: study.regimes[wildcards.regime].epochs,
        budget=compute("training_tokens"),
        threads=compute("threads"),
        checkpoint=f"{RESULTS}/checkpoints/{RM}.pt",
        # No setting of the result: Snakemake does not compare what could depend on the output.
        checkpoint_interval=lambda wildcards, output: study.training.checkpoint_interval,
    message:
        "Train {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/train.py"
