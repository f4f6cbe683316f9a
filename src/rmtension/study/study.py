"""The study file as a whole: its parts, whether the names in them are known, and what follows from them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from rmtension.study.benchmarks import Benchmark, OwnBenchmark, PublishedBenchmark
from rmtension.study.compatibility import with_authors_choices
from rmtension.study.data import PairSource, Regime, RegimeData, Validation, with_curves
from rmtension.study.models import Model
from rmtension.study.naming import (
    AVERAGE,
    MEAN,
    UNORIENTED,
    TensionSet,
    ablation_name,
    ranks_heads,
    tension_sets_index,
    thirds_names,
)
from rmtension.study.scorings import Ablation, Neurons
from rmtension.study.section import Name, Place, Section, Seed, refuse_repeats, refuse_taken, require_known
from rmtension.study.stages import Activations, Analysis, Conflict, Figures, Patching, Training

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
    analysis: Analysis = Analysis()
    figures: Figures = Figures()

    @model_validator(mode="before")
    @classmethod
    def fill_in_compatibility(cls, data: Any) -> Any:
        return with_authors_choices(data)

    @model_validator(mode="before")
    @classmethod
    def draw_curves(cls, data: Any) -> Any:
        known = isinstance(data, Mapping) and "regimes" in data
        return {**data, "regimes": with_curves(data["regimes"])} if known else data

    @model_validator(mode="after")
    def names_are_known(self) -> Self:
        refuse_repeats("seeds", self.seeds)
        refuse_repeats("ablation.sweep", self.ablation.sweep)
        refuse_repeats("ablation.values", self.ablation.values)
        refuse_repeats("neurons.scorings", self.neurons.scorings)
        refuse_repeats("ablation.sweep_benchmarks", self.ablation.sweep_benchmarks)
        refuse_taken("regimes", UNORIENTED, self.regimes)
        refuse_taken("benchmarks", VALIDATION, self.benchmarks)
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
            for place in model.trained:
                if place not in self.with_models():
                    message = f"models.{name}.trained.{place}: an ensemble has no reward model of its own; leave it out"
                    raise PydanticCustomError("no_model", "{m}", {"m": message})
            for place, folders in model.trained.items():
                require_known(f"models.{name}.trained.{place}", map(str, folders), list(map(str, self.seeds)))
        require_known("ablation.sweep_benchmarks", self.ablation.sweep_benchmarks, self.benchmarks)
        if self.patching is not None:
            refuse_repeats("patching.benchmarks", self.patching.benchmarks)
            require_known("patching.benchmarks", self.patching.benchmarks, self.benchmarks)
        require_known("ablation.scoring", [self.ablation.scoring], self.neurons.scorings)
        return self

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

    def patched(self) -> list[tuple[str, str]]:
        """Each regime and benchmark of which reward models are patched with their parts' activations."""
        benchmarks = self.patching.benchmarks if self.patching else []
        return list(product(self.mixed_regimes(), benchmarks))

    def conflicting(self, regime: str) -> list[tuple[str, str]]:
        """The two objectives of each mixture that a regime is, or is a part of."""
        mixtures = {name: self.regimes[name].mixes for name in self.mixed_regimes() if self.conflict}
        return list(dict.fromkeys((a, b) for name, (a, b) in mixtures.items() if regime in (name, a, b)))

    def regime_sources(self, regime: str, split: Literal["train", "test"]) -> list[str]:
        """Names of the sources that make up a split; a mixed regime's are those of both its parts."""
        mixes = self.regimes[regime].mixes
        parts = [name for part in mixes for name in self.regime_sources(part, split)]
        return list(dict.fromkeys(parts)) if mixes else list(getattr(self.regimes[regime], split))

    def objectives(self, regime: str) -> dict[str, str]:
        """Of a mixed regime, each source to train on -> the part that it is of, the first one if both have it."""
        parts = reversed(self.regimes[regime].mixes)
        return {source: part for part in parts for source in self.regime_sources(part, "train")}

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

    def scored(self) -> list[str]:
        """What reward models are scored on: the benchmarks, and the validation split, which is judged by none."""
        return [*self.benchmarks, VALIDATION]

    def ablations(self, regime: str, benchmark: str) -> list[str]:
        """Names of all that is ablated in a regime's reward models on one of `scored`, `none` first."""
        if regime not in self.with_neurons():
            return ["none"]
        if benchmark == VALIDATION:
            return ["none", self.ablation.main_set]
        swept = self.ablation.sweep if benchmark in self.ablation.sweep_benchmarks else []
        own = [ablation_name(s, size) for s in self.neurons.scorings for size in [self.ablation.percent, *swept]]
        tension = [one.name for one in tension_sets_index(self.regimes[regime].mixes, self.ablation.control_draws)]
        thirds = thirds_names(self.ablation.control_draws)
        return list(dict.fromkeys(["none", *own, *tension, *thirds, *self.mean_ablations(tension)]))

    def mean_ablations(self, others: Sequence[str]) -> list[str]:
        """Of the sets of one size, a reward model's own ones and `others`, those of neurons, replaced by means."""
        neurons = [scoring for scoring in self.neurons.scorings if not ranks_heads(scoring)]
        own = [ablation_name(scoring, self.ablation.percent) for scoring in neurons]
        return [name + MEAN for name in (*own, *others)] if "mean" in self.ablation.values else []

    def analysed(self, *without: str) -> dict[str, Any]:
        """The study as tables and report see it: without how jobs run, how figures look, and the keys `without`."""
        left_out: dict[str, Any] = {"figures": True, "models": {"__all__": {"compute"}}}
        return self.model_dump(mode="json", exclude=left_out | dict.fromkeys(without, True))


def own_tests(study: Study) -> list[str]:
    """The benchmarks that are each regime's own, so that no two regimes share their comparisons."""
    return [name for name, benchmark in study.benchmarks.items() if benchmark.kind == "regime-test"]


def compared_sets(study: Study, regime: str) -> list[TensionSet]:
    """A mixed regime's sets that are patched and whose gradients are compared: all but the authors' shared one."""
    index = tension_sets_index(study.regimes[regime].mixes, study.ablation.control_draws)
    return [one for one in index if one.set != "shared-authors"]


def observed_sets(study: Study) -> list[str]:
    """Sets whose activation is taken text by text: a reward model's main one and, if there is one, its match."""
    sets = [study.ablation.main_set]
    if "matched-random" in study.neurons.scorings:
        sets.append(study.ablation.matched_set)
    return list(dict.fromkeys(sets))  # all neurons are one set, whatever the scoring
