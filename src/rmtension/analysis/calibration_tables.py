"""Tables about how far probabilities can be taken at their word."""

from __future__ import annotations

import numpy as np
import polars as pl

from rmtension.analysis.calibration import FIGURES, UNABLATED
from rmtension.analysis.resampling import Array
from rmtension.analysis.results import Results
from rmtension.analysis.sets import mixtures
from rmtension.analysis.statistics import REWARD_MODEL, Draws, concat
from rmtension.study.measured import own_tests
from rmtension.study.naming import OVERALL


def calibration_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, ablation (none, or the own main set); over all pairs of a chosen and a rejected
    response: ece, squared_ce (without the bias that ece has), brier, log_loss, the temperature fitted on the regime's
    validation split, and rescaled_log_loss, at that temperature; n_fitted, the number of reward models that have a
    temperature. The others have none in its mean, and where scores are no better than a coin, a coin's
    rescaled_log_loss, or nearly so (docs/methods.md, section 12)."""
    by = ["model", "regime", "benchmark", "ablation"]
    first, others = FIGURES[0], [*FIGURES[1:-1], "temperature", FIGURES[-1]]
    figures = {name: draws.filter(results.once_each) for name, draws in results.pairs.calibration.items()}
    table = results.table(figures[first], by, first, **{name: figures[name] for name in others}).drop("p")
    fits = figures["temperature"].frame("fit")
    every = pl.concat([fits, fits.with_columns(model=pl.lit(OVERALL))])
    counts = every.group_by(by, maintain_order=True).agg(n_fitted=pl.col("fit").count())
    return table.join(counts, on=by, how="left", maintain_order="left")


def calibration_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime, against, benchmark; the changes of these figures on the same comparisons: of a mixed reward
    model's from those of its part `against`; where `against` is "unablated", of any one's when its own main set is
    zeroed. Benchmarks whose comparisons not all regimes share are in the latter alone. rescaled_log_loss_change is
    over reward models whose counterpart, what they are held against, has a temperature."""
    by = ["model", "regime", "against", "benchmark"]
    figures = results.pairs.calibration
    *plain, last = FIGURES
    changes = {f"{name}_change": contrasts(results, figures[name], figures[name]) for name in plain}
    fit = figures[last].combined(
        estimates(figures["temperature"]), [*REWARD_MODEL, "ablation", "benchmark"], where_defined
    )
    changes[f"{last}_change"] = contrasts(results, figures[last], fit)
    first, *others = changes
    return results.table(changes[first], by, first, **{name: changes[name] for name in others}).drop("p")


def estimates(figures: Draws) -> Draws:
    """The figures' estimates as all of their draws."""
    return Draws(figures.keys, np.broadcast_to(figures.values[:, :1], figures.values.shape))


def where_defined(figure: Array, other: Array) -> Array:
    """A figure where the other is one."""
    return np.where(np.isnan(other), np.nan, figure)


def contrasts(results: Results, figure: Draws, reference: Draws) -> Draws:
    """`calibration_contrasts` of one figure, keyed by reward model, against and benchmark; reference: the same figure
    where another can be held against it."""
    plain, ablated = reference.filter(ablation="none"), figure.filter(ablation=results.study.ablation.main_set)
    parts = [ablated.minus(plain, [*REWARD_MODEL, "benchmark"]).with_columns(pl.lit(UNABLATED).alias("against"))]
    shared = ~pl.col("benchmark").is_in(own_tests(results.study))
    for mixed, single in mixtures(results.study, results.study.regimes):
        ours, theirs = figure.filter(shared, ablation="none", regime=mixed), plain.filter(shared, regime=single)
        difference = ours.minus(theirs, ["model", "seed", "benchmark"])
        parts.append(difference.with_columns(pl.lit(single).alias("against")))
    return concat(parts)


def reliability_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, ablation (none, or the own main set); left and right edge of a bin of confidences;
    share of the pairs that are in it, their mean confidence, and their accuracy."""
    by = ["model", "regime", "benchmark", "ablation", "left", "right"]
    figures = {name: draws.filter(results.once_each) for name, draws in results.pairs.curves().items()}
    first, *others = figures
    return results.table(figures[first], by, first, **{name: figures[name] for name in others}).drop("p")
