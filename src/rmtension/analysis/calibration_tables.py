"""Tables about how far probabilities can be taken at their word."""

from __future__ import annotations

import polars as pl

from rmtension.analysis.calibration import FIGURES, UNABLATED
from rmtension.analysis.results import Results
from rmtension.analysis.sets import mixtures
from rmtension.analysis.statistics import REWARD_MODEL, Draws, concat
from rmtension.study.study import own_tests


def calibration_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, ablation (none, or the own main set); over all pairs of a chosen and a rejected
    response: ece, squared_ce (without the bias that ece has), brier, log_loss, the temperature fitted on the regime's
    validation split, and rescaled_log_loss, at that temperature."""
    by = ["model", "regime", "benchmark", "ablation"]
    first, others = FIGURES[0], [*FIGURES[1:-1], "temperature", FIGURES[-1]]
    figures = results.pairs.calibration
    return results.table(figures[first], by, first, **{name: figures[name] for name in others}).drop("p")


def calibration_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime, against, benchmark; the changes of these figures on the same comparisons: of a mixed reward
    model's from those of its part `against`; where `against` is "unablated", of any one's when its own main set is
    zeroed. Benchmarks whose comparisons not all regimes share are in the latter alone."""
    by = ["model", "regime", "against", "benchmark"]
    changes = {f"{name}_change": contrasts(results, results.pairs.calibration[name]) for name in FIGURES}
    first, *others = changes
    return results.table(changes[first], by, first, **{name: changes[name] for name in others}).drop("p")


def contrasts(results: Results, figure: Draws) -> Draws:
    """`calibration_contrasts` of one figure, keyed by reward model, against and benchmark."""
    plain, ablated = figure.filter(ablation="none"), figure.filter(ablation=results.study.ablation.main_set)
    parts = [ablated.minus(plain, [*REWARD_MODEL, "benchmark"]).with_columns(pl.lit(UNABLATED).alias("against"))]
    shared = plain.filter(~pl.col("benchmark").is_in(own_tests(results.study)))
    for mixed, single in mixtures(results.study):
        difference = shared.filter(regime=mixed).minus(shared.filter(regime=single), ["model", "seed", "benchmark"])
        parts.append(difference.with_columns(pl.lit(single).alias("against")))
    return concat(parts)


def reliability_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, ablation (none, or the own main set); left and right edge of a bin of confidences;
    share of the pairs that are in it, their mean confidence, and their accuracy."""
    by = ["model", "regime", "benchmark", "ablation", "left", "right"]
    figures = results.pairs.curves
    first, *others = figures
    return results.table(figures[first], by, first, **{name: figures[name] for name in others}).drop("p")
