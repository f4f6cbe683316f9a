# What several rules share: code as an input, and what a job of a model asks for.


def code(script):
    """The package's modules that a script comes to import: editing one reruns the rules that depend on it."""
    files = provenance.module_files(SCRIPTS / script)
    return [os.path.relpath(file) for file in files]


def settings(section):
    """A part of the study as plain values, so that a rule's params change with it and with nothing else."""
    return section.model_dump(mode="json")


def compute(field, share=1.0):
    """A resource of the job's model, as a function of its wildcards."""
    return lambda wildcards: max(1, round(share * getattr(study.models[wildcards.model].compute, field)))


def gpus(wildcards):
    return study.models[wildcards.model].compute.gpus


def reward_models(pattern):
    """A file of every reward model of the study."""
    return expand(pattern, model=study.models, regime=study.regimes, seed=study.seeds)
