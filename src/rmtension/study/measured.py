"""What is measured of a study's reward models: on what they are scored, with which sets ablated, patched, compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from rmtension.study.data import MATCHED
from rmtension.study.naming import MEAN, TensionSet, ablation_name, ranks_heads, tension_sets_index, thirds_names
from rmtension.study.study import VALIDATION, Study


def own_tests(study: Study) -> list[str]:
    """The benchmarks that are each regime's own, so that no two regimes share their comparisons."""
    return [name for name, benchmark in study.benchmarks.items() if benchmark.kind == "regime-test"]


def scored_on(study: Study) -> list[str]:
    """What reward models are scored on: the benchmarks, and the validation split, which is judged by none."""
    return [*study.benchmarks, VALIDATION]


def ablated_sets(study: Study, regime: str, benchmark: str) -> list[str]:
    """Names of all that is ablated in a regime's reward models on one of `scored_on`, `none` first."""
    if benchmark == VALIDATION:
        return ["none", study.ablation.main_set] if regime in study.with_neurons() else ["none"]
    return sets_of_sizes(study, regime, study.ablation.sweep if benchmark in study.ablation.sweep_benchmarks else [])


def sets_of_sizes(study: Study, regime: str, swept: Sequence[float | str] = ()) -> list[str]:
    """Names of the sets of one size, and of those that are `swept`, that are ablated in a regime's reward models."""
    if regime not in study.with_neurons():
        return ["none"]
    own = [ablation_name(s, size) for s in study.neurons.scorings for size in [study.ablation.percent, *swept]]
    tension = [one.name for one in tension_sets_index(study.regimes[regime].mixes, study.ablation.control_draws)]
    thirds = thirds_names(study.ablation.control_draws)
    return list(dict.fromkeys(["none", *own, *tension, *thirds, *mean_ablated(study, tension)]))


def mean_ablated(study: Study, others: Sequence[str]) -> list[str]:
    """Of the sets of one size, a reward model's own ones and `others`, those of neurons, replaced by means."""
    neurons = [scoring for scoring in study.neurons.scorings if not ranks_heads(scoring)]
    own = [ablation_name(scoring, study.ablation.percent) for scoring in neurons]
    return [name + MEAN for name in (*own, *others)] if "mean" in study.ablation.values else []


def patched_on(study: Study) -> list[tuple[str, str]]:
    """Each regime and benchmark of which reward models are patched with their parts' activations."""
    benchmarks = study.patching.benchmarks if study.patching else []
    return list(product(study.mixed_regimes(), benchmarks))


def compared_objectives(study: Study, regime: str) -> list[tuple[str, str]]:
    """The two objectives of each mixture that are compared in a regime's reward models."""
    mixtures = {name: study.regimes[name].mixes for name in study.mixed_regimes() if study.conflict}
    compared = [(a, b) for name, (a, b) in mixtures.items() if regime in compared_in(study, name)]
    return list(dict.fromkeys(compared))


def compared_in(study: Study, mixture: str) -> list[str]:
    """Regimes in whose reward models a mixture's objectives are compared: its parts and itself, which are one of given
    reward models."""
    return [*([] if study.given else study.regimes[mixture].mixes), mixture]


def compared_sets(study: Study, regime: str) -> list[TensionSet]:
    """A mixed regime's sets that are patched and whose gradients are compared: all but the authors' shared one."""
    index = tension_sets_index(study.regimes[regime].mixes, study.ablation.control_draws)
    return [one for one in index if one.set != "shared-authors"]


def matched_frozen(study: Study) -> list[tuple[str, str, int]]:
    """Model, regime and seed of all that is trained here with neurons held fixed that are matched to shared ones."""
    matched = [(repair, mixed) for repair, mixed in study.repaired() if study.regimes[repair].frozen == MATCHED]
    every = product(study.models, dict.fromkeys(repair for repair, _ in matched), study.seeds)
    return [(m, regime, seed) for m, regime, seed in every if seed not in study.models[m].trained.get(regime, {})]


def observed_sets(study: Study) -> list[str]:
    """Sets whose activation is taken text by text: a reward model's main one and, if there is one, its match."""
    sets = [study.ablation.main_set]
    if "matched-random" in study.neurons.scorings:
        sets.append(study.ablation.matched_set)
    return list(dict.fromkeys(sets))  # all neurons are one set, whatever the scoring
