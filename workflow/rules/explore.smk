# The explorer: one page in which comparisons and neurons are looked at, one by one; and what it takes of the reward models whose
# neurons it shows.


EXPLORER_PAGE = sorted(map(os.path.relpath, (provenance.PACKAGE / "report" / "explorer_page").iterdir()))


UNSEEN = [
    "activations",
    "analysis",
    "conflict",
    "patching",
    "training",
    "validation",
]  # parts of the study that it shows nothing of


rule passages:
    input:
        reward_model=REWARD_MODEL,
        pairs=f"{RESULTS}/data/{{regime}}/test.parquet",
        neurons=rules.neurons.output[0],
        selected=rules.select_sets.output[0],
        code=code("passages.py"),
    output:
        passages=f"{RESULTS}/passages/{RM}.parquet",
        scores=f"{RESULTS}/passages/{RM}/scores.parquet",
    log:
        f"{RESULTS}/logs/passages/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/passages/{RM}.tsv"
    priority: -1  # as the answer key
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            code("passages.py"),
            neurons=study.explore.neurons,
            passages=study.explore.passages,
            pairs=study.explore.pairs,
            seed=study.explore.seed,
            sets=lambda wildcards: explored_sets(study, wildcards.regime),
            budget=compute("inference_tokens"),
            **ARITHMETIC,
        ),
    message:
        "What neurons read and do in {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/passages.py"


rule running_rewards:
    input:
        reward_model=REWARD_MODEL,
        comparisons=sum(JUDGED.values(), []),
        code=code("running_rewards.py"),
    output:
        f"{RESULTS}/running_rewards/{RM}.parquet",
    log:
        f"{RESULTS}/logs/running_rewards/{RM}.log",
    benchmark:
        f"{RESULTS}/benchmark/running_rewards/{RM}.tsv"
    priority: -1
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(compute("runtime")),
        gpu=scoring_gpus,
    params:
        settings=settings(
            code("running_rewards.py"),
            judged=JUDGED,
            running=study.explore.running,
            seed=study.explore.seed,
            budget=compute("inference_tokens"),
            **ARITHMETIC,
        ),
    message:
        "Rewards token by token of {wildcards.model}, {wildcards.regime}, seed {wildcards.seed}"
    script:
        "../scripts/running_rewards.py"


rule explore:
    input:
        comparisons=sum(JUDGED.values(), []),
        scores=expand(
            reward_models(f"{RESULTS}/scores/{RM}/{{{{benchmark}}}}.parquet", study.regimes),
            benchmark=study.benchmarks,
        ),
        sets=reward_models(f"{RESULTS}/selected/{RM}/sets.parquet"),
        lengths=expand(f"{RESULTS}/lengths/{{model}}.parquet", model=study.models),
        activations=reward_models(f"{RESULTS}/activations/{RM}.parquet"),
        neurons=reward_models(f"{RESULTS}/neurons/{RM}.parquet"),
        passages=explored_reward_models(rules.passages.output.passages, explored(study)),
        without=explored_reward_models(rules.passages.output.scores, explored(study)),
        running=explored_reward_models(rules.running_rewards.output[0], read_along(study)),
        page=EXPLORER_PAGE,
        code=code("explore.py"),
    output:
        f"{RESULTS}/explore.html",
    log:
        f"{RESULTS}/logs/explore.log",
    benchmark:
        f"{RESULTS}/benchmark/explore.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        settings=settings(
            code("explore.py"),
            EXPLORER_PAGE,
            judged=JUDGED,
            study=study.analysed("data_root", "hub_cache", *UNSEEN),
            figures=study.figures,
        ),
    message:
        "Explorer"
    script:
        "../scripts/explore.py"
