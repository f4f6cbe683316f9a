"""The study file as a whole: its parts, whether the names in them are known, and what follows from them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rmtension.study.benchmarks import Benchmark, OwnBenchmark, PublishedBenchmark
from rmtension.study.compatibility import AUTHORS, with_authors_choices
from rmtension.study.data import EPOCHS, PairSource, Regime, Validation, with_curves
from rmtension.study.given import NEED_BASE, READ_OF_TRAINING, with_given_defaults
from rmtension.study.models import GivenModel, Model, made_neurons
from rmtension.study.naming import AVERAGE, UNORIENTED, misfit
from rmtension.study.scorings import ATTRIBUTED, Ablation, Neurons
from rmtension.study.section import Name, Place, Section, Seed, nearest, refuse_repeats, refuse_taken, require_known
from rmtension.study.stages import Activations, Analysis, Conflict, Explore, Figures, Patching, Training

VALIDATION = "validation"  # stands for the regime's validation split where that is scored as benchmarks are


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
    patching: Patching | None = Field(None, description="Without it nothing is patched.")
    conflict: Conflict | None = Field(None, description="Without it no gradients are compared; `{}` takes all pairs.")
    explore: Explore = Explore()
    analysis: Analysis = Analysis()
    figures: Figures = Figures()

    @model_validator(mode="before")
    @classmethod
    def fill_in_compatibility(cls, data: Any) -> Any:
        return with_authors_choices(data)

    @model_validator(mode="before")
    @classmethod
    def fill_in_given(cls, data: Any) -> Any:
        return with_given_defaults(data)

    @model_validator(mode="before")
    @classmethod
    def draw_curves(cls, data: Any) -> Any:
        known = isinstance(data, Mapping) and "regimes" in data
        return {**data, "regimes": with_curves(data["regimes"])} if known else data

    @model_validator(mode="after")
    def given_models_are_only_looked_at(self) -> Self:
        for key, wrong in beside_given(self) if self.given else []:
            raise ValueError(f"{key}: a given reward model is as it is: {wrong}")
        return self

    @model_validator(mode="after")
    def names_are_known(self) -> Self:
        require_known_names(self)
        require_sizes(self)
        refuse_lean_parts(self)
        return self

    @property
    def given(self) -> bool:
        """Whether the study is of reward models that are there. Of each, all regimes' places are the same one, and a
        regime says on which pairs its neurons are found."""
        return any(isinstance(model.source, GivenModel) for model in self.models.values())

    @property
    def standing(self) -> dict[str, Any] | None:
        """What statistics are read for until they stand still (see stable.Standing); None to read all."""
        if self.activations.stable is None:
            return None
        of = {"scoring": self.ablation.scoring, "percent": self.ablation.percent}
        return {"least": self.activations.stable, "magnitude": self.neurons.magnitude} | of

    def distinct_regimes(self) -> list[str]:
        """Regimes whose reward models differ: all, or of given ones a mixed one for all."""
        return [*self.mixed_regimes(), *self.regimes][:1] if self.given else list(self.regimes)

    def single_regimes(self) -> list[str]:
        """Regimes with data of their own, in the study's order."""
        return [name for name, regime in self.regimes.items() if not regime.mixes]

    def mixed_regimes(self) -> list[str]:
        """Regimes trained on two others' data together, in which the study looks for tension."""
        return [name for name, regime in self.regimes.items() if regime.mixes and regime.method == "joint"]

    def repairs(self) -> list[str]:
        """Regimes in which two others come together in another way."""
        return [name for name, regime in self.regimes.items() if regime.method != "joint"]

    def repaired(self) -> list[tuple[str, str]]:
        """Each repair with each mixed regime of the same two parts, which it is held against."""
        pairs, parts = product(self.repairs(), self.mixed_regimes()), {n: {*r.mixes} for n, r in self.regimes.items()}
        return [(repair, mixed) for repair, mixed in pairs if parts[repair] == parts[mixed]]

    def plain_regimes(self) -> list[str]:
        """All but the repairs: what claims about reward models as they are look at."""
        return [name for name in self.regimes if name not in self.repairs()]

    def with_models(self) -> list[str]:
        """Regimes with reward models of their own: an ensemble has none."""
        return [name for name, regime in self.regimes.items() if regime.method != "ensemble"]

    def with_neurons(self) -> list[str]:
        """Regimes whose reward models' neurons are ranked and ablated; the others are scored alone."""
        return [name for name in self.with_models() if self.regimes[name].neurons]

    def analysed(self, *without: str) -> dict[str, Any]:
        """The study as tables and report see it: without how jobs run, how figures look, and the keys `without`."""
        left_out: dict[str, Any] = {"figures": True, "models": {"__all__": {"compute"}}}
        return self.model_dump(mode="json", exclude=left_out | dict.fromkeys(without, True))


def require_known_names(study: Study) -> None:
    """Every name that a section gives is one of the section it is of, once; none is a word that tables need."""
    refuse_repeats("seeds", study.seeds)
    refuse_repeats("ablation.sweep", study.ablation.sweep)
    refuse_repeats("ablation.values", study.ablation.values)
    refuse_repeats("neurons.scorings", study.neurons.scorings)
    refuse_repeats("ablation.sweep_benchmarks", study.ablation.sweep_benchmarks)
    refuse_taken("regimes", UNORIENTED, study.regimes)
    refuse_taken("sources", AVERAGE, study.sources)  # they are the tasks of an own test split
    refuse_taken("benchmarks", VALIDATION, study.benchmarks)
    for name, regime in study.regimes.items():
        refuse_repeats(f"regimes.{name}.train", regime.train)
        refuse_repeats(f"regimes.{name}.test", regime.test)
        require_known(f"regimes.{name}.train", regime.train, study.sources)
        require_known(f"regimes.{name}.test", regime.test, study.sources)
        require_parts(study, name, regime.mixes)
    for name, benchmark in study.benchmarks.items():
        if isinstance(benchmark, PublishedBenchmark):
            refuse_repeats(f"benchmarks.{name}.tasks", benchmark.tasks or [])
        if isinstance(benchmark, OwnBenchmark):
            orientations = [*study.single_regimes(), "helpful", "harmless", UNORIENTED]
            require_known(f"benchmarks.{name}.tasks", benchmark.tasks.values(), orientations)
            refuse_taken(f"benchmarks.{name}.tasks", AVERAGE, benchmark.tasks)
    for name, model in study.models.items():
        require_known(f"models.{name}.trained", model.trained, study.regimes)
        for place in model.trained:
            if place not in study.with_models():
                key = f"models.{name}.trained.{place}"
                raise ValueError(f"{key}: an ensemble has no reward model of its own; leave it out")
        for place, folders in model.trained.items():
            require_known(f"models.{name}.trained.{place}", map(str, folders), list(map(str, study.seeds)))
    require_known("ablation.sweep_benchmarks", study.ablation.sweep_benchmarks, study.benchmarks)
    if study.patching is not None:
        refuse_repeats("patching.benchmarks", study.patching.benchmarks)
        require_known("patching.benchmarks", study.patching.benchmarks, study.benchmarks)
    for key in ("patching", "conflict"):
        if getattr(study, key) is not None and not study.mixed_regimes():
            looked_at = "it looks at regimes trained on two others' data"
            raise ValueError(f"{key}: {looked_at}, and none is: leave it out, or add one")
    require_known("ablation.scoring", [study.ablation.scoring], study.neurons.scorings)
    if study.activations.stable is not None and study.ablation.scoring in ATTRIBUTED:
        sets = f"sets by '{study.ablation.scoring}'"
        raise ValueError(f"activations.stable: {sets} are not made of activations: leave it out")


def require_sizes(study: Study) -> None:
    """Sets are no larger than made models, and hold a neuron; the sizes of others are known once they are read."""
    for name, n_neurons in made_neurons(study.models).items():
        if wrong := misfit(name, n_neurons, study.ablation.percent, study.ablation.swept):
            raise ValueError(wrong)


def refuse_lean_parts(study: Study) -> None:
    """Lean training takes the weights whole: Adafactor looks at rows and columns."""
    for name, model in study.models.items():
        if model.compute.sharded and study.training.memory == "lean":
            spread = f"models.{name}.compute.sharded spreads weights"
            raise ValueError(f"training.memory: lean, while {spread}: leave out one of them")


def require_parts(study: Study, name: str, mixes: Sequence[str]) -> None:
    """A regime mixes those that have data of their own."""
    singles = study.single_regimes()
    for part in mixes:
        if part in study.regimes and part not in singles:
            raise ValueError(f"regimes.{name}.mixes: '{part}' itself is made of two others; {nearest(part, singles)}")
    require_known(f"regimes.{name}.mixes", mixes, singles)


def beside_given(study: Study) -> Iterator[tuple[str, str]]:
    """Key of all that asks for a backbone or for training where reward models are given, and what is wrong with it."""
    given = {name: model.source for name, model in study.models.items() if isinstance(model.source, GivenModel)}
    for name, model in study.models.items():
        if name not in given:
            yield f"models.{name}.source.kind", f"'{model.source.kind}' is trained here: give it a study of its own"
        if model.trained:
            yield f"models.{name}.trained", "the reward model is the source: leave this out"
    if len(study.seeds) > 1:
        yield "seeds", "nothing is trained, so that all were the same: give one"
    silent = Training.model_validate(AUTHORS["training"] if study.compatibility == "authors" else {})
    for key in [key for key in Training.model_fields if key not in READ_OF_TRAINING]:
        if getattr(study.training, key) != getattr(silent, key):
            yield f"training.{key}", f"nothing is trained: leave it out; {', '.join(READ_OF_TRAINING)} is of use"
    for name, regime in study.regimes.items():
        if regime.method != "joint":
            yield f"regimes.{name}.method", f"'{regime.method}' makes another reward model: leave the regime out"
        if regime.epochs != EPOCHS:
            yield f"regimes.{name}.epochs", "nothing is trained: leave it out"
    if NEED_BASE & set(study.neurons.scorings):
        rest = ", ".join(scoring for scoring in study.neurons.scorings if scoring not in NEED_BASE) or "magnitude"
        yield "neurons.scorings", f"'{', '.join(NEED_BASE)}' sets it beside its backbone: give [{rest}]"
    if study.patching is not None:
        yield "patching", "there are no reward models of its parts: leave it out"
    in_chat = [name for name, source in given.items() if source.template == "chat"]
    for name, benchmark in study.benchmarks.items():
        if in_chat and isinstance(benchmark, PublishedBenchmark | OwnBenchmark) and benchmark.template != "hh":
            form = f"models.{in_chat[0]}.source.template is 'chat'"
            yield f"benchmarks.{name}.template", f"'{benchmark.template}' cannot be where {form}: give hh"
