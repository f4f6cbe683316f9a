"""The study file: its types are the only source of what a study may say."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rmtension.base.errors import UserError
from rmtension.study.inputs import READS, SPLITS, data_files, found, model_files
from rmtension.study.naming import AVERAGE, ablation_name, tension_sets_index


def six_digits(percent: float) -> float:
    """Names of sets have no more: two sizes must not share one."""
    if float(f"{percent:g}") != percent:
        raise ValueError(f"more than six digits; give {percent:g}")
    return percent


def machine_integer(number: int) -> int:
    if number >= 2**63:
        raise ValueError("more than 64 bits; give a smaller one")
    return number


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Percent = Annotated[float, Field(gt=0, le=100), AfterValidator(six_digits)]
Count = Annotated[int, Field(ge=1), AfterValidator(machine_integer)]
Seed = Annotated[int, Field(ge=0), AfterValidator(machine_integer)]
# Not in braces, which Snakemake would take for wildcards.
Place = Annotated[str, Field(pattern=r"^[^{}\x00-\x1f]+$", max_length=1000)]
MeasuredScoring = Literal["magnitude", "mean", "mean_abs", "change", "probability"]
Scoring = Literal[MeasuredScoring, "random", "matched-random", "head-norm", "head-random"]
ALL = "all"  # every known task of a published benchmark
UNORIENTED = "unoriented"  # a task that is neither regime's
COMMIT = re.compile("[0-9a-f]{40}")
UNLOCKED = "unlocked"  # stands for the commit of what is neither pinned nor locked


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word closest to `word`, or all of them where none is close."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(words)}"


class Section(BaseModel):
    """A part of the study file: immutable, and an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_keys(cls, data: Any) -> Any:
        unknown = [key for key in data if key not in cls.model_fields] if isinstance(data, Mapping) else []
        if unknown:
            message = f"unknown key '{unknown[0]}'; {nearest(str(unknown[0]), cls.model_fields)}"
            raise PydanticCustomError("unknown_key", "{message}", {"message": message})
        return data

    @model_validator(mode="before")
    @classmethod
    def refuse_booleans(cls, data: Any) -> Any:
        """Where a number belongs, one would be taken for 0 or 1."""
        boolean = {key for key, field in cls.model_fields.items() if field.annotation is bool}
        for key, value in data.items() if isinstance(data, Mapping) else []:
            if key not in boolean and any(
                isinstance(one, bool) for one in (value if isinstance(value, list) else [value])
            ):
                raise ValueError(f"'{key}' is neither a number nor a text; a word such as yes or off needs quotes")
        return data

    def files(self, data_root: str) -> list[Path]:
        """The local files that this part of the study reads."""
        return []

    def cached(self, hub_cache: str) -> Self:
        """The same, with a folder of the cache in place of an id on the hub."""
        return self


HUB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"


def lock_key(hub: str | None, revision: str | None) -> str:
    """Name of a branch, by default the main one, in a lock file."""
    return f"{hub}@{revision}" if revision else f"{hub}"


class Located(Section):
    """Something read from a local folder or file (below `data_root`) or from the hub."""

    kind: str
    path: Place | None = Field(None, description="Local folder or file, relative to data_root.")
    hub: Annotated[str, Field(pattern=HUB_ID)] | None = Field(None, description="Id on the hub: owner/name.")
    revision: str | None = Field(
        None,
        validate_default=True,
        description="Commit on the hub, or a branch, by default the main one: its commit is in the lock file.",
    )

    @field_validator("revision")
    @classmethod
    def lock(cls, revision: str | None, info: ValidationInfo) -> str | None:
        """The commit that the lock file, the context of the validation, has for a branch."""
        return (info.context or {}).get(lock_key(info.data.get("hub"), revision), revision)

    def cached(self, hub_cache: str) -> Self:
        if self.hub is None:
            return self
        commit = self.revision if COMMIT.fullmatch(self.revision or "") else UNLOCKED
        place = f"{hub_cache}/{self.kind}/{self.hub}/{commit}/files"
        return self.model_copy(update={"path": place, "hub": None, "revision": None})

    def local(self, data_root: str) -> Path:
        """The local folder or file, as seen from the working folder; only what is `cached` has one for certain."""
        assert self.path is not None
        return Path(data_root) / self.path

    def checksums(self, data_root: str, hub_cache: str) -> Path:
        """The file of the cache that stands for all that this part of the study reads from the hub."""
        return self.cached(hub_cache).local(data_root).with_name("checksums.json")

    @model_validator(mode="after")
    def exactly_one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' and 'hub'")
        return self


# --- models ---------------------------------------------------------------------------------------------------


class Pretraining(Section):
    """Brief language-model training of a made backbone on the synthetic corpus."""

    texts: Count = Field(description="Synthetic dialogues to train the tokenizer and the language model on.")
    epochs: Count = Field(description="Passes over those dialogues.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of AdamW.")
    seed: Seed = Field(0, description="Seed of the corpus, the initial weights and the order.")


class MadeModel(Section):
    kind: Literal["made"]
    family: Literal["gpt2", "gpt_neox", "llama", "olmo2", "qwen2", "qwen3"] = Field(description="Architecture.")
    layers: Count = Field(description="Number of layers.")
    width: Count = Field(description="Hidden size.")
    heads: Count = Field(description="Attention heads of a layer; divides width.")
    neurons: Count = Field(description="MLP hidden size of a layer.")
    vocabulary: int = Field(1024, ge=258, description="Size of the byte-level BPE vocabulary: bytes, two marks, more.")
    pretraining: Pretraining = Field(description="How it learns the synthetic language.")

    @model_validator(mode="after")
    def heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width // self.heads % 2 and self.family not in ("gpt2", "gpt_neox"):
            raise ValueError(f"width {self.width} of heads {self.heads}: {self.family} takes heads of an even size")
        return self


class FolderModel(Located):
    kind: Literal["pretrained"]

    def files(self, data_root: str) -> list[Path]:
        return model_files(self.local(data_root))


class GgufModel(Section):
    kind: Literal["gguf"]
    path: Place = Field(description="GGUF file, relative to data_root.")

    def files(self, data_root: str) -> list[Path]:
        return [Path(data_root) / self.path]


BackboneSource = Annotated[MadeModel | FolderModel | GgufModel, Field(discriminator="kind")]


class Compute(Section):
    """What one job of this model asks for and how it fills its batches."""

    threads: Count = Field(1, description="CPU threads of a job; results depend on it, never on --cores.")
    gpus: int = Field(
        0,
        ge=0,
        description="GPUs that a training job computes on, a process on each; scoring takes one. 0: the CPU.",
    )
    sharded: bool = Field(
        False, description="Spread weights and optimiser over these GPUs, instead of a copy on each. Takes 2 or more."
    )
    mem_mb: Count = Field(1500, description="Memory of a job that loads the model, in MB.")
    runtime: Count = Field(30, description="Time limit of a job that trains or scores, in minutes.")
    training_tokens: Count = Field(4096, description="Most tokens of a micro-batch; a longer pair is one by itself.")
    inference_tokens: Count = Field(8192, description="Most tokens of a batch without gradients.")
    inference_precision: Literal["float32", "tensorfloat32", "bfloat16"] = Field(
        "float32", description="Of matrix products without gradients. tensorfloat32 is for GPUs, and elsewhere float32."
    )
    checkpoint_minutes: int = Field(
        10, ge=0, description="Minutes between checkpoints that training resumes from; 0: one after every step."
    )

    @model_validator(mode="after")
    def spreads_over_several(self) -> Self:
        if self.sharded and self.gpus < 2:
            raise ValueError("sharded takes gpus: 2 or more")
        return self


class Model(Section):
    source: BackboneSource = Field(description="Where the backbone comes from.")
    compute: Compute = Field(Compute(), description="What its jobs ask for.")
    trained: dict[Name, dict[Seed, Place]] = Field(
        {}, description="Regime -> seed -> folder of a reward model trained elsewhere, relative to data_root."
    )


# --- data -----------------------------------------------------------------------------------------------------


class SyntheticPairs(Section):
    kind: Literal["synthetic"]
    objective: Literal["helpful", "harmless"] = Field(description="What the pairs prefer.")
    train: Count = Field(description="Pairs of the train split.")
    test: Count = Field(description="Pairs of the test split.")
    seed: Seed = Field(0, description="Seed of the generator.")


class HHPairs(Located):
    kind: Literal["hh-rlhf"]
    folder: Place = Field(description="Folder of the data set, such as helpful-base.")
    max_train: Count | None = Field(None, description="Keep this many train pairs, drawn by `seed`.")
    max_test: Count | None = Field(None, description="Keep this many test pairs, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")

    def files(self, data_root: str) -> list[Path]:
        folder = self.local(data_root) / self.folder
        return [file for names in SPLITS.values() for file in found(folder, names)]


class Columns(Section):
    """What the columns of a user's own file are called."""

    prompt: str | None = Field("prompt", description="A text or a list of turns; null: the others are whole dialogues.")
    chosen: str = Field("chosen", description="What should score higher: a text, in a benchmark also a list of them.")
    rejected: str = Field("rejected", description="What should score lower: the same.")


class OwnPairs(Section):
    """A user's own files, parquet or JSON."""

    kind: Literal["own"]
    train: Place = Field(description="File or folder of shards of the train split, relative to data_root.")
    test: Place = Field(description="File or folder of shards of the test split, relative to data_root.")
    columns: Columns = Columns()
    max_train: Count | None = Field(None, description="Keep this many train pairs, drawn by `seed`.")
    max_test: Count | None = Field(None, description="Keep this many test pairs, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")

    def files(self, data_root: str) -> list[Path]:
        return [
            *data_files(Path(data_root) / self.train, "train"),
            *data_files(Path(data_root) / self.test, "test"),
        ]


PairSource = Annotated[SyntheticPairs | HHPairs | OwnPairs, Field(discriminator="kind")]


class Regime(Section):
    """What a reward model is trained on: named sources, or the union of two other regimes."""

    train: list[Name] = Field([], description="Sources whose train split is used.")
    test: list[Name] = Field([], description="Sources whose test split is used.")
    mixes: list[Name] = Field([], description="Two single-objective regimes whose data are joined.")
    epochs: Count = Field(2, description="Passes over the training pairs.")

    @model_validator(mode="after")
    def has_data(self) -> Self:
        if self.mixes and (self.train or self.test or len(self.mixes) != 2 or len(set(self.mixes)) != 2):
            raise ValueError("'mixes' names two different regimes and stands without 'train' and 'test'")
        if not self.mixes and not (self.train and self.test):
            raise ValueError("regime without data: give 'train' and 'test', or 'mixes'")
        return self


class Validation(Section):
    """Held out from train, for choosing a checkpoint; the test split is never looked at while training."""

    fraction: float = Field(0.05, gt=0, lt=1, description="Share of the opening questions that is held out.")
    seed: Seed = Field(0, description="Draws those questions.")


class RegimeData(Section):
    """All that one regime's pairs depend on."""

    sources: dict[Name, PairSource]
    orientations: dict[Name, str] = Field(description="Source -> the first single regime that uses it.")
    train: list[Name]
    test: list[Name]
    validation: Validation
    data_root: str


# --- stages ---------------------------------------------------------------------------------------------------


class Training(Section):
    """docs/methods.md, section 3: Bradley-Terry loss, AdamW without weight decay, linear decay to zero, no warm-up."""

    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    pairs_per_step: Count = Field(16, description="Pairs of one optimiser step, whatever fits in a micro-batch.")
    max_tokens: Count = Field(
        1024, description="Pairs with a side longer than this, or than the model reads, are left out, and counted."
    )
    gradient_clip: float = Field(1.0, gt=0, description="Largest norm of a step's gradient.")
    head_deviation: float = Field(0.02, gt=0, description="Standard deviation of the head's initial weights.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="bfloat16 computes in bf16 over float32 master weights; auto: where a GPU has it."
    )
    keep: Literal["best", "last"] = Field("best", description="best: lowest loss on the split `select_on`.")
    select_on: Literal["validation", "test"] = Field(
        "validation",
        description="Split whose loss chooses the checkpoint; test: the authors'. Neither is trained on.",
    )
    evaluation_interval: Count = Field(100, description="Steps between looks at that split.")


class Activations(Section):
    max_pairs: Count | None = Field(None, description="Use this many train pairs, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")


class Neurons(Section):
    scorings: list[Scoring] = Field(
        ["magnitude", "change", "probability", "random", "matched-random", "head-norm", "head-random"],
        min_length=1,
        description="What neurons and, by the last two, attention heads are ranked by.",
    )
    magnitude: Literal["mean", "mean_abs"] = Field(
        "mean_abs",
        description="What `magnitude` is. mean_abs: the paper's word; mean: the signed mean of the authors' code.",
    )
    random_seed: Seed = Field(0, description="Seed of the random scorings and of the sets drawn as controls.")


class Ablation(Section):
    percent: Percent = Field(10, description="Size of the oriented sets.")
    scoring: MeasuredScoring = Field(
        "magnitude", description="Scoring that a mixed RM's sets are made by and that `matched-random` is matched to."
    )
    control_draws: Count = Field(3, description="Random draws of each control of a mixed RM's sets.")
    sweep: list[Percent] = Field(
        [2, 5, 10, 20, 30, 100], description="Sizes of the ablation curve; without any there is no curve."
    )
    sweep_benchmarks: list[Name] = Field([], description="Benchmarks on which the curve is run.")


class RegimeTest(Section):
    """The regime's own test split, as a benchmark."""

    kind: Literal["regime-test"]


class SyntheticBenchmark(Section):
    kind: Literal["synthetic"]
    per_task: Count = Field(description="Comparisons of each task.")
    seed: Seed = Field(0, description="Seed of the generator.")


class PublishedBenchmark(Located):
    """A published benchmark in its upstream layout."""

    kind: Literal["reward-bench", "reward-bench-2", "rm-bench", "rmb-pairwise", "rmb-best-of-n"]
    tasks: list[str] | None = Field(
        None, min_length=1, description="Upstream subset names, or `all`; default: those with an orientation."
    )
    max_per_task: Count | None = Field(None, description="Keep this many comparisons a task, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")
    template: Literal["hh", "paper"] = Field("hh", description="hh: the training form; paper: the authors'.")

    def files(self, data_root: str) -> list[Path]:
        return found(self.local(data_root), READS[self.kind])

    @model_validator(mode="after")
    def rmb_is_local(self) -> Self:
        if self.hub is not None and self.kind.startswith("rmb-"):
            raise ValueError("RMB is not on the hub: give the 'path' of a clone of its authors' repository")
        return self

    @field_validator("tasks", mode="before")
    @classmethod
    def all_is_a_list_too(cls, tasks: Any) -> Any:
        return [ALL] if tasks == ALL else tasks


PUBLISHED = get_args(PublishedBenchmark.model_fields["kind"].annotation)


class TaskColumns(Columns):
    task: str | None = Field("task", description="The task's name; null: the whole file is the one task of `tasks`.")


class OwnBenchmark(Section):
    """A user's own file, parquet or JSON."""

    kind: Literal["own"]
    path: Place = Field(description="File or folder of shards, relative to data_root.")
    columns: TaskColumns = TaskColumns()
    tasks: dict[str, str] = Field(
        min_length=1, description="Task -> orientation: a single-objective regime, or `unoriented`."
    )
    max_per_task: Count | None = Field(None, description="Keep this many comparisons a task, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")
    template: Literal["hh", "paper"] = Field("hh", description="hh: the training form; paper: the authors'.")

    def local(self, data_root: str) -> Path:
        return Path(data_root) / self.path

    def files(self, data_root: str) -> list[Path]:
        return data_files(self.local(data_root))

    @model_validator(mode="after")
    def one_task_without_a_column(self) -> Self:
        if self.columns.task is None and len(self.tasks) > 1:
            raise ValueError("without columns.task the whole file is one task: 'tasks' names just that one")
        return self


Benchmark = Annotated[RegimeTest | SyntheticBenchmark | PublishedBenchmark | OwnBenchmark, Field(discriminator="kind")]


class Analysis(Section):
    """How tables are made of the scores; nothing is trained or scored anew for it."""

    draws: Count = Field(
        2000, description="Bootstrap draws; 10000 halve what chance in drawing does to limits, for five times the cost."
    )
    seed: Seed = Field(0, description="Seed of the bootstrap.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Coverage of the intervals.")
    selection: Literal["exact", "authors"] = Field(
        "exact", description="Neurons that depth and overlap count. authors: scores averaged over seeds, a percentile."
    )
    shared: Literal["intersection", "authors"] = Field(
        "intersection", description="Which set the claims call shared; both are ablated."
    )
    rm_bench: Literal["strict", "same-style"] = Field(
        "strict", description="strict: all chosen above all rejected; same-style: pairs of one style, the authors'."
    )


class Figures(Section):
    palette: str = Field("colorblind", description="A seaborn palette.")
    dpi: Count = Field(150, description="Resolution of the png files.")
    font_size: float = Field(9, gt=0, description="In points.")


# What `compatibility: authors` fills in where the study file is silent (docs/methods.md, section 9).
AUTHORS = {
    "neurons": {"magnitude": "mean"},
    "analysis": {"selection": "authors", "shared": "authors", "rm_bench": "same-style"},
    "training": {"select_on": "test"},
}
AUTHORS_BENCHMARK = {"template": "paper"}


class Study(Section):
    name: Name = Field(description="Outputs go to results/{name}.")
    compatibility: Literal["corrected", "authors"] = Field(
        "corrected", description="authors: other defaults, so that the authors' code is followed where it errs."
    )
    data_root: Place = Field(".", description="Folder that local paths of the study are relative to.")
    hub_cache: Place = Field(
        "hub", description="Folder for what comes from the hub, relative to data_root; studies can share it."
    )
    seeds: list[Seed] = Field(min_length=1, description="One reward model of every model and regime for each.")
    models: dict[Name, Model] = Field(min_length=1, description="Backbones by name.")
    sources: dict[Name, PairSource] = Field(min_length=1, description="Preference pairs by name.")
    regimes: dict[Name, Regime] = Field(min_length=1, description="What reward models are trained on, by name.")
    validation: Validation = Validation()
    training: Training = Training()
    activations: Activations = Activations()
    neurons: Neurons = Neurons()
    ablation: Ablation = Ablation()
    benchmarks: dict[Name, Benchmark] = Field(min_length=1, description="What they are evaluated on, by name.")
    analysis: Analysis = Analysis()
    figures: Figures = Figures()

    @model_validator(mode="before")
    @classmethod
    def fill_in_compatibility(cls, data: Any) -> Any:
        """What is malformed is left as it is, for the fields to refuse."""
        if not isinstance(data, Mapping) or data.get("compatibility") != "authors":
            return data
        filled = {key: with_defaults(data.get(key, {}), switches) for key, switches in AUTHORS.items()}
        benchmarks = data.get("benchmarks")
        if isinstance(benchmarks, Mapping):
            filled["benchmarks"] = {
                name: with_defaults(b, AUTHORS_BENCHMARK) if is_published(b) else b for name, b in benchmarks.items()
            }
        return {**data, **filled}

    @model_validator(mode="after")
    def names_are_known(self) -> Self:
        refuse_repeats("seeds", self.seeds)
        refuse_repeats("ablation.sweep", self.ablation.sweep)
        refuse_repeats("neurons.scorings", self.neurons.scorings)
        refuse_repeats("ablation.sweep_benchmarks", self.ablation.sweep_benchmarks)
        refuse_taken("regimes", UNORIENTED, self.regimes)
        for name, regime in self.regimes.items():
            refuse_repeats(f"regimes.{name}.train", regime.train)
            refuse_repeats(f"regimes.{name}.test", regime.test)
            require_known(f"regimes.{name}.train", regime.train, self.sources)
            require_known(f"regimes.{name}.test", regime.test, self.sources)
            require_known(f"regimes.{name}.mixes", regime.mixes, self.single_regimes())
        for name, benchmark in self.benchmarks.items():
            if isinstance(benchmark, PublishedBenchmark):
                refuse_repeats(f"benchmarks.{name}.tasks", benchmark.tasks or [])
            if isinstance(benchmark, OwnBenchmark):
                orientations = [*self.single_regimes(), "helpful", "harmless", UNORIENTED]
                require_known(f"benchmarks.{name}.tasks", benchmark.tasks.values(), orientations)
                refuse_taken(f"benchmarks.{name}.tasks", AVERAGE, benchmark.tasks)
        for name, model in self.models.items():
            require_known(f"models.{name}.trained", model.trained, self.regimes)
            for place, folders in model.trained.items():
                require_known(f"models.{name}.trained.{place}", map(str, folders), list(map(str, self.seeds)))
        require_known("ablation.sweep_benchmarks", self.ablation.sweep_benchmarks, self.benchmarks)
        require_known("ablation.scoring", [self.ablation.scoring], self.neurons.scorings)
        return self

    def single_regimes(self) -> list[str]:
        """Regimes with data of their own, in the study's order."""
        return [name for name, regime in self.regimes.items() if not regime.mixes]

    def regime_sources(self, regime: str, split: Literal["train", "test"]) -> list[str]:
        """Names of the sources that make up a split; a mixed regime's are those of both its parts."""
        mixes = self.regimes[regime].mixes
        parts = [name for part in mixes for name in self.regime_sources(part, split)]
        return list(dict.fromkeys(parts)) if mixes else list(getattr(self.regimes[regime], split))

    def regime_data(self, regime: str) -> RegimeData:
        train, test = self.regime_sources(regime, "train"), self.regime_sources(regime, "test")
        names = list(dict.fromkeys(train + test))
        users = {r: self.regimes[r].train + self.regimes[r].test for r in self.single_regimes()}
        return RegimeData(
            sources={name: self.sources[name].cached(self.hub_cache) for name in names},
            orientations={name: next(r for r, used in users.items() if name in used) for name in names},
            train=train,
            test=test,
            validation=self.validation,
            data_root=self.data_root,
        )

    def adopted(self) -> dict[tuple[str, str, int], Path]:
        """Model, regime and seed of each reward model that was trained elsewhere -> its folder."""
        return {
            (name, regime, seed): Path(self.data_root) / folder
            for name, model in self.models.items()
            for regime, folders in model.trained.items()
            for seed, folder in folders.items()
        }

    def ablations(self, regime: str, benchmark: str) -> list[str]:
        """Names of all that is ablated in a regime's reward models on a benchmark, `none` first."""
        swept = self.ablation.sweep if benchmark in self.ablation.sweep_benchmarks else []
        own = [ablation_name(s, p) for s in self.neurons.scorings for p in [self.ablation.percent, *swept]]
        tension = tension_sets_index(self.regimes[regime].mixes, self.ablation.control_draws)
        return list(dict.fromkeys(["none", *own, *(one.name for one in tension)]))

    def analysed(self, *without: str) -> dict[str, Any]:
        """The study as tables and report see it: without how jobs run, how figures look, and the keys `without`."""
        left_out: dict[str, Any] = {"figures": True, "models": {"__all__": {"compute"}}}
        return self.model_dump(mode="json", exclude=left_out | dict.fromkeys(without, True))

    def origins(self) -> dict[str, BackboneSource | PairSource | Benchmark]:
        """Key of the study file -> part that says where models and data come from."""
        models = {f"models.{name}.source": model.source for name, model in self.models.items()}
        sources = {f"sources.{name}": source for name, source in self.sources.items()}
        benchmarks = {f"benchmarks.{name}": benchmark for name, benchmark in self.benchmarks.items()}
        return models | sources | benchmarks

    def fetched(self) -> dict[str, Path]:
        """Key of the study file -> checksums of what it reads from the hub."""
        located = {key: part for key, part in self.origins().items() if isinstance(part, Located) and part.hub}
        return {key: part.checksums(self.data_root, self.hub_cache) for key, part in located.items()}

    def local_paths(self) -> dict[str, tuple[Path, str]]:
        """Key of the study file -> what it names, and whether that is to be a file, a folder, or either."""
        paths = {
            f"models.{m}.trained.{r}.{seed}": (folder, "folder") for (m, r, seed), folder in self.adopted().items()
        }
        root = Path(self.data_root)
        for key, section in self.origins().items():
            if isinstance(section, Located | GgufModel) and section.path is not None:
                paths[f"{key}.path"] = root / section.path, NAMES_A.get(section.kind, "file or folder")
                if isinstance(section, HHPairs):
                    paths[f"{key}.folder"] = root / section.path / section.folder, "folder"
        return paths | {key: (path, "file or folder") for key, (path, _) in self.own_data().items()}

    def own_data(self) -> dict[str, tuple[Path, str]]:
        """Key of the study file -> file or folder of shards of a user's own, and the split that it is, if it is one."""
        root = Path(self.data_root)
        own: dict[str, tuple[Path, str]] = {}
        for key, section in self.origins().items():
            if isinstance(section, OwnPairs):
                own |= {f"{key}.train": (root / section.train, "train"), f"{key}.test": (root / section.test, "test")}
            elif isinstance(section, OwnBenchmark):
                own[f"{key}.path"] = root / section.path, ""
        return own


NAMES_A = {"pretrained": "folder", "hh-rlhf": "folder", "gguf": "file"}  # kind -> what `path` is to be


def with_defaults(section: Any, values: Mapping[str, str]) -> Any:
    return {**values, **section} if isinstance(section, Mapping) else section


def is_published(benchmark: Any) -> bool:
    return isinstance(benchmark, Mapping) and benchmark.get("kind") in PUBLISHED


def refuse_repeats(key: str, values: list[Any]) -> None:
    repeated = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if repeated:
        raise PydanticCustomError("repeated", "{m}", {"m": f"{key}: {repeated[0]} is given more than once"})


def refuse_taken(key: str, word: str, names: Iterable[str]) -> None:
    """Where a name would be mistaken for a word that tables have in its place."""
    if word in names:
        raise PydanticCustomError("taken", "{m}", {"m": f"{key}: '{word}' has a meaning of its own; give another name"})


def require_known(key: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            message = f"{key}: unknown name '{name}'; {nearest(name, known)}"
            raise PydanticCustomError("unknown_name", "{message}", {"message": message})


def load_study(settings: Mapping[str, Any], file: str, locked: Mapping[str, str] = {}) -> Study:
    """Check a study file's content, and that the local files it names exist; `locked` is its lock file's content.

    Raises UserError with one line for each mistake, naming `file` and the key.
    """
    try:
        study = Study.model_validate(settings, context=locked)
    except ValidationError as error:
        raise UserError(*(f"{file}: {describe(e)}" for e in error.errors())) from None
    for key, (path, kind) in study.local_paths().items():
        # By os.path, for which a name that cannot be one is not there.
        if not os.path.exists(path):
            raise UserError(f"{file}: {key}: {path} does not exist; see docs/data.md for where to get it")
        if kind not in ("file" if os.path.isfile(path) else "folder" if os.path.isdir(path) else "", "file or folder"):
            raise UserError(f"{file}: {key}: {path} is no {kind}; name a {kind}")
    for key, (path, split) in study.own_data().items():
        try:
            data_files(path, split)
        except UserError as error:
            raise UserError(f"{file}: {key}: {error}") from None
    return study


KINDS = {kind for kinds in (MadeModel, FolderModel, GgufModel, SyntheticPairs, HHPairs, OwnPairs, RegimeTest,
                            SyntheticBenchmark, PublishedBenchmark, OwnBenchmark)
         for kind in get_args(kinds.model_fields["kind"].annotation)}  # fmt: skip


def describe(error: Any) -> str:
    """One pydantic error as `key: what is wrong`; the tags that pydantic puts into union keys are left out."""
    keys: list[str] = []
    for part in error["loc"]:
        # Pydantic adds a union member's tag behind the key that holds the union.
        is_tag = part in KINDS and len(keys) == 2 + (keys[:1] == ["models"])
        keys += [] if is_tag or part == "[key]" else [str(part)]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "union_tag_invalid":
        expected = re.findall(r"'([^']+)'", error["ctx"]["expected_tags"])
        keys.append("kind")
        message = f"unknown kind '{error['ctx']['tag']}'; {nearest(error['ctx']['tag'], expected)}"
    elif error["type"] == "union_tag_not_found":
        keys.append("kind")
        message = "this key is missing"
    elif error["type"] == "missing":
        message = "this key is missing"
    elif error["type"] != "unknown_key" and isinstance(error["input"], int | float | str | bool):
        message = f"{message}; got {error['input']!r}"
    return f"{'.'.join(keys)}: {message}" if keys else message
