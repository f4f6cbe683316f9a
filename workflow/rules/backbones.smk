# A backbone as a Hugging Face folder: made here, linked, or converted.


rule backbone:
    input:
        code=code("backbone.py"),
    output:
        directory(f"{RESULTS}/backbones/{{model}}"),
    params:
        source=lambda wildcards: settings(study.models[wildcards.model].source),
        data_root=study.data_root,
        threads=compute("threads"),
    log:
        f"{RESULTS}/logs/backbones/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmark/backbones/{{model}}.tsv"
    threads: compute("threads")
    resources:
        mem_mb=compute("mem_mb"),
        runtime=60,
    message:
        "Backbone {wildcards.model}"
    script:
        "../scripts/backbone.py"
