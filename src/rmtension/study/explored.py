"""What the explorer looks into: whose neurons, by which sets, and how much of it."""

from __future__ import annotations

from rmtension.study.naming import ablation_name, exclusive_names
from rmtension.study.study import Study

ATTRIBUTION = "attribution"


def explored(study: Study) -> list[str]:
    """The regimes whose reward models' neurons the explorer shows: the mixed ones, or all where nothing is mixed."""
    return study.mixed_regimes() or study.with_neurons()


def read_along(study: Study) -> list[str]:
    """The regimes under whose reward models the explorer shows rewards token by token: all but the repairs."""
    return [name for name in study.distinct_regimes() if name in study.plain_regimes()]


def explored_sets(study: Study, regime: str) -> dict[str, str]:
    """The sets whose strongest neurons the explorer shows of a regime -> the scoring that says how strong they are."""
    scoring, percent = study.ablation.scoring, study.ablation.percent
    found = dict.fromkeys(exclusive_names(study.regimes[regime].mixes), scoring)
    if ATTRIBUTION in study.neurons.scorings:
        found[ablation_name(ATTRIBUTION, percent)] = ATTRIBUTION
    return found | {study.ablation.main_set: scoring}
