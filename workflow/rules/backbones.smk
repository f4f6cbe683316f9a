# A backbone as a Hugging Face folder: made here, linked, or converted.


rule backbone:
    input:
        files=backbone_files,
        code=code("backbone.py"),
    output:
        BACKBONE,
    log:
        f"{RESULTS}/logs/backbones/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmark/backbones/{{model}}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: compute("threads")
    resources:
        mem_mb=by_attempt(compute("mem_mb")),
        runtime=by_attempt(60),
    params:
        settings=settings(
            code("backbone.py"),
            backbone_files,
            source=lambda wildcards: study.models[wildcards.model].source.cached(study.hub_cache),
            data_root=study.data_root,
            threads=compute("threads"),
        ),
    message:
        "Backbone {wildcards.model}"
    script:
        "../scripts/backbone.py"
