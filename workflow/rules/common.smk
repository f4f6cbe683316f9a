# What several rules share: code as an input, and what a job of a model asks for.
from functools import cache

from pydantic_core import to_jsonable_python

from rmtension.base.files import RESOURCES, fingerprint, sha256, write_text
from rmtension.study import places
from rmtension.study.benchmarks import PUBLISHED
from rmtension.study.explored import explored, explored_sets, read_along
from rmtension.study.inputs import model_files
from rmtension.study.measured import ablated_sets, compared_objectives, compared_sets, matched_frozen, observed_sets
from rmtension.study.measured import patched_on
from rmtension.study.naming import MEAN
from rmtension.study.section import lock_key
from rmtension.study.sources import objectives_of_sources, regime_data
from rmtension.study.study import VALIDATION


@cache
def script_file(name):
    """A script; of a workflow that lies in a repository elsewhere a copy, as Snakemake's own has another path each time."""
    if SCRIPTS.is_dir():
        return SCRIPTS / name
    text = Path(workflow.source_path(f"../scripts/{name}")).read_text(encoding="utf-8")
    copy = Path(".snakemake/rmtension", name)
    if not copy.exists() or copy.read_text(encoding="utf-8") != text:
        write_text(text, copy)
    return copy


def code(script, *by_name):
    """A script and the package's modules that it comes to import: editing one reruns the rules that depend on it.

    by_name: modules that it finds by their name alone.
    """
    roots = [script_file(script), *map(provenance.module_file, by_name)]
    files = [file for root in roots for file in [root, *provenance.module_files(root)]]
    return [os.path.relpath(file) for file in dict.fromkeys(files)]


def resource(name):
    """A file that comes with the project."""
    return os.path.relpath(RESOURCES / name)


def published():
    """The published figures that tables are set beside; those of claims are the claims' own."""
    return sorted(str(file) for file in Path(resource("paper")).glob("*.csv") if file.stem != "claims")


# Kind of a part of the study -> the files of the project that it draws on.
DRAWS_ON = {
    "made": ["synthetic.yaml"],
    "synthetic": ["synthetic.yaml"],
    **dict.fromkeys(PUBLISHED, ["paper/tasks.csv", "tasks.csv"]),
}


def read_files(*sections):
    """The files that parts of the study read, of the project and of the user's: another content is another input."""
    own = {resource(name) for section in sections for name in DRAWS_ON.get(section.kind, [])}
    fetched = [section for section in sections if getattr(section, "hub", None)]
    files = [section.checksums(study.data_root, study.hub_cache) for section in fetched]
    files += [file for section in sections if section not in fetched for file in section.files(study.data_root)]
    return [*sorted(own), *map(str, files)]


def backbone_files(wildcards):
    """What it is made of."""
    return read_files(study.models[wildcards.model].source)


def data_files(wildcards):
    """What a regime's pairs are read from."""
    return read_files(*(study.sources[name] for name in regime_data(study, wildcards.regime).sources))


def benchmark_code(wildcards):
    """Of what reads a benchmark; a published one's layout is a module of its own."""
    upstream = PUBLISHED.get(study.benchmarks[wildcards.benchmark].kind)
    return code("benchmark.py", *([f"data.layouts.{upstream.layout}"] if upstream else []))


def benchmark_files(wildcards):
    """What a benchmark's comparisons are read from that no job makes."""
    benchmark = study.benchmarks[wildcards.benchmark]
    return [] if benchmark.kind == "all-tests" else read_files(benchmark)


def benchmark_splits(wildcards):
    """The test splits that a benchmark is made of."""
    return TESTS if study.benchmarks[wildcards.benchmark].kind == "all-tests" else []


def read_by_jobs():
    """What the jobs of this run read and do not make."""
    jobs = list(workflow.dag.needrun_jobs())
    made = {file for job in jobs for file in job.output}
    return {Path(file) for job in jobs for file in job.input if file not in made}


def settings(*read, **parts):
    """All that a job takes from the study, as one mapping of plain values; a part may be a function of the wildcards.

    All rules have this one param: Snakemake compares params as a set without their names, so that one that takes on
    the value of another would go unseen, and leaves out what is no builtin. The text of a mapping holds its keys.

    read: lists of the files that the job reads and no job makes. Their content is a setting too: Snakemake looks at
    inputs only where they are dated later than the outputs, and what is moved, unpacked or copied keeps its date.
    """

    def of_job(wildcards):
        found = {name: part(wildcards) if callable(part) else part for name, part in parts.items()}
        files = [file for part in read for file in (part(wildcards) if callable(part) else part)]
        # What is fetched, perhaps only later, is known by its path, which has the commit.
        fetched = places.fetched(study).values()
        given = [content(file) for file in files if Path(file) not in fetched]
        return to_jsonable_python(found | {"read": fingerprint(*given)})

    return of_job


@cache  # as it was at the start: what changes later is another one at the next
def content(file):
    """What stands for the content of a file: a hash, or of those too large for Snakemake's checksums, size and time."""
    try:
        status = os.stat(file)
        large = status.st_size > provenance.LARGE
        return f"{status.st_size} {int(status.st_mtime)}" if large else sha256(Path(file))
    except OSError as error:  # the job says it
        return str(error)


def compute(field):
    """A setting of the job's model's compute section, as a function of the wildcards."""
    return lambda wildcards: getattr(study.models[wildcards.model].compute, field)


def of_regime(field):
    """What the study says of the job's regime, as a function of the wildcards."""
    return lambda wildcards: getattr(study.regimes[wildcards.regime], field)


def by_attempt(amount):
    """A resource that grows: after a failed attempt a job asks for as much again. `amount` may depend on the wildcards."""
    return lambda wildcards, attempt: attempt * (amount(wildcards) if callable(amount) else amount)


def scoring_gpus(wildcards):
    """One where the model trains on one or more."""
    return min(compute("gpus")(wildcards), 1)


# Settings of every job that computes in a reward model and does not train it: on what, and how exactly.
ARITHMETIC = {"precision": compute("inference_precision"), "threads": compute("threads"), "gpus": scoring_gpus}


# Folder of each reward model that was trained elsewhere, by its place in the study.
ADOPTED = {RM.format(model=m, regime=r, seed=seed): folder for (m, r, seed), folder in places.adopted(study).items()}


def adopted(wildcards):
    """The folder that a reward model is adopted from."""
    return ADOPTED[RM.format(**wildcards)]


def adopted_files(wildcards):
    """Of the folder that a reward model is adopted from."""
    return list(map(str, model_files(adopted(wildcards))))


def reward_models(pattern, regimes=study.with_neurons()):
    """A file of every reward model whose neurons are looked at, or of all that is scored."""
    return expand(pattern, model=study.models, regime=regimes, seed=study.seeds)


def explored_reward_models(pattern, regimes):
    """A file of every reward model of these regimes that the explorer looks into: those of the first seed."""
    return expand(pattern, model=study.models, regime=regimes, seed=study.seeds[:1])


def tension(wildcards):
    """What the sets of a mixed regime are made by; nothing for another one, as it has none of them."""
    mixes = study.regimes[wildcards.regime].mixes
    return {"mixes": mixes, "scoring": study.ablation.scoring} if mixes else {}


def of_method(method):
    """Wildcard constraint: the regimes of that method."""
    return "|".join(re.escape(name) for name, regime in study.regimes.items() if regime.method == method) or "(?!)"


def of_given():
    """Wildcard constraint: the models that are given."""
    return "|".join(map(re.escape, study.models)) if study.given else "(?!)"


def given(wildcards):
    """What the study says of where a reward model that is given comes from."""
    source = study.models[wildcards.model].source
    return source.path or lock_key(source.hub, source.revision)


def base(wildcards):
    """The backbone that a reward model was trained from, where there is one."""
    return [] if study.given else BACKBONE


def of_parts(pattern):
    """A file of the reward model of each of a regime's parts, as a function of the wildcards."""
    return lambda wildcards: [pattern.replace("{regime}", part) for part in study.regimes[wildcards.regime].mixes]


def attributions(wildcards):
    """Those of a reward model, where a scoring of the study takes them."""
    return rules.attribution.output[0] if study.neurons.takes_attributions else []


def objectives(wildcards):
    """The objectives whose gradients are compared in a regime's reward models."""
    return list(dict.fromkeys(name for two in compared_objectives(study, wildcards.regime) for name in two))


def objectives_pairs(wildcards):
    """Pairs of each objective that nothing was trained on."""
    return [f"{RESULTS}/data/{regime}/test.parquet" for regime in objectives(wildcards)]


def frozen(wildcards):
    """The neurons whose weights training leaves as they are, if there are any."""
    return rules.select_frozen.output[0] if study.regimes[wildcards.regime].method == "frozen" else []


# Benchmarks with comparisons of their own; those of kind regime-test have none.
OF_THEIR_OWN = [name for name, benchmark in study.benchmarks.items() if benchmark.kind != "regime-test"]


def comparisons_of(regime, benchmark):
    """The comparisons that a regime's reward models are scored on."""
    if benchmark in OF_THEIR_OWN:
        return f"{RESULTS}/benchmarks/{benchmark}.parquet"
    split = "validation" if benchmark == VALIDATION else "test"
    return f"{RESULTS}/data/{regime}/{split}.parquet"


# Benchmark -> files of the comparisons that any reward model is judged by: the single regimes' test pairs are the mixed ones'.
TESTS = expand(f"{RESULTS}/data/{{regime}}/test.parquet", regime=study.single_regimes())
JUDGED = {
    name: [f"{RESULTS}/benchmarks/{name}.parquet"] if name in OF_THEIR_OWN else TESTS for name in study.benchmarks
}


def selected(wildcards):
    """The file of sets that holds all that is ablated on a benchmark; nothing of a regime without a look at neurons."""
    if wildcards.regime not in study.with_neurons():
        return []
    swept = wildcards.benchmark in study.ablation.sweep_benchmarks
    return rules.select.output[0] if swept else rules.select_sets.output[0]


def means(wildcards):
    """The activations whose means take the place of neurons' values, where that is asked for."""
    asked = any(name.endswith(MEAN) for name in ablated_sets(study, wildcards.regime, wildcards.benchmark))
    return rules.activations.output.neurons if asked else []


def tables_memory(wildcards, input):
    """In MB, as `rmtension plan` reckons with, by the files as large as they are."""
    sizes = {kind: sum(map(os.path.getsize, input[kind])) for kind in RECKONED["tables"]}
    read = sum(RECKONED["tables"][kind]["memory"] * size for kind, size in sizes.items())
    return int(1000 * RECKONED["rules"]["tables"]["memory_gb"] + read / 1e6)
