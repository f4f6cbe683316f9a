# Snakemake takes this file when it stands beside workflow/: it hands over to the workflow and has a target of its own.
include: "workflow/Snakefile"


rule study:
    default_target: True
    input:
        rules.all.input,
