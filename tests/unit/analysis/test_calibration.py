"""Calibration held against scikit-learn, scipy and loops over single comparisons."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as log_loss_of

from rmtension.analysis.calibration import BINS, calibrated, curves, fitted, temperatures
from rmtension.analysis.pairs import pair_blocks
from rmtension.analysis.statistics import Bootstrap, Draws

BOOTSTRAP = Bootstrap(40, 0, 0.95)
LISTS = {"chosen_scores": pl.List(pl.Float32), "rejected_scores": pl.List(pl.Float32)}


def scores(
    benchmark: str, tasks: dict[str, tuple[int, int, int]], scale: float, lead: float, seed: int = 0
) -> pl.DataFrame:
    """Random scores of two reward models; tasks: name -> comparisons, chosen and rejected responses."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for regime, (task, (n, n_chosen, n_rejected)) in product(("helpful", "harmless"), tasks.items()):
        for i in range(n):
            unscored = i == 1 and task == "b"
            chosen, rejected = rng.normal(lead, scale, n_chosen).tolist(), rng.normal(0, scale, n_rejected).tolist()
            rows.append({"model": "m", "regime": regime, "seed": 0, "benchmark": benchmark, "ablation": "none",
                         "comparison_id": f"{task}/{i}", "orientation": "helpful", "task": task,
                         "chosen_scores": None if unscored else chosen,
                         "rejected_scores": None if unscored else rejected})  # fmt: skip
    return pl.DataFrame(rows, schema_overrides=LISTS)


def differences(frame: pl.DataFrame, times: dict[str, int] | None = None) -> np.ndarray[Any, Any]:
    """Of every pair, one after the other; times: comparison -> how often it counts."""
    found = []
    for row in frame.drop_nulls().to_dicts():
        pairs = [c - r for c, r in product(row["chosen_scores"], row["rejected_scores"])]
        found += pairs * (1 if times is None else times[row["comparison_id"]])
    return np.array(found)


def drawn(frame: pl.DataFrame, draw: int) -> dict[str, int]:
    """How often each comparison is drawn."""
    times: dict[str, int] = {}
    for (benchmark, task), part in frame.group_by("benchmark", "task"):
        ids = part["comparison_id"].unique(maintain_order=True).to_list()
        counts = BOOTSTRAP.counts(len(ids), str(benchmark), str(task))[:, draw]
        times |= dict(zip(ids, map(int, counts), strict=True))
    return times


def error_by_loops(d: np.ndarray[Any, Any], edges: np.ndarray[Any, Any]) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for value in d:
        sure = 1 / (1 + math.exp(-abs(value)))
        bins[sum(edge < sure for edge in edges)].append((sure, value > 0))
    return sum(abs(sum(right for _, right in b) - sum(sure for sure, _ in b)) for b in bins) / len(d)


def squared_by_loops(frame: pl.DataFrame, times: dict[str, int]) -> float:
    """The mean over pairs of the mean product of gaps with each pair of another comparison in the bin."""
    edges = np.quantile(1 / (1 + np.exp(-np.abs(differences(frame)))), np.arange(1, BINS) / BINS)
    bins: list[list[tuple[str, float]]] = [[] for _ in range(BINS)]
    for row in frame.drop_nulls().to_dicts():
        for d in (c - r for c, r in product(row["chosen_scores"], row["rejected_scores"])):
            sure = 1 / (1 + math.exp(-abs(d)))
            bins[sum(e < sure for e in edges)] += [(row["comparison_id"], (d > 0) - sure)] * times[row["comparison_id"]]
    total, n = 0.0, 0
    for pairs in bins:
        products = [g * h for (a, g), (b, h) in product(pairs, repeat=2) if a != b]
        if products:
            total, n = total + len(pairs) * float(np.mean(products)), n + len(pairs)
    return total / n


def row_of(figure: Draws, **keys: Any) -> np.ndarray[Any, Any]:
    return np.asarray(figure.filter(**keys).values[0])


FRAME = scores("bench", {"a": (23, 1, 1), "b": (9, 1, 3), "c": (5, 3, 3)}, 1.7, 0.3)
VALIDATION = scores("validation", {"a": (60, 1, 1)}, 1.1, 1.0, seed=3)


def test_error_and_brier_and_loss_by_other_libraries() -> None:
    """Over all pairs, with the confidence as the probability of being right."""
    figures = calibrated(BOOTSTRAP, pair_blocks(FRAME), fitted(BOOTSTRAP, pair_blocks(VALIDATION)))
    for regime in ("helpful", "harmless"):
        d = differences(FRAME.filter(regime=regime))
        assert len(d) == 23 + 8 * 3 + 5 * 9
        right, sure = d > 0, 1 / (1 + np.exp(-np.abs(d)))
        share, mean = calibration_curve(right, sure, n_bins=BINS, strategy="quantile")
        sizes = np.bincount(np.searchsorted(np.percentile(sure, np.linspace(0, 100, BINS + 1))[1:-1], sure))
        expected = (sizes * np.abs(share - mean)).sum() / len(d)
        assert row_of(figures["ece"], regime=regime)[0] == pytest.approx(expected, abs=1e-12)
        p, one = 1 / (1 + np.exp(-d)), np.ones(len(d))
        assert row_of(figures["brier"], regime=regime)[0] == pytest.approx(brier_score_loss(one, p, labels=[0, 1]))
        assert row_of(figures["log_loss"], regime=regime)[0] == pytest.approx(log_loss_of(one, p, labels=[0, 1]))


def test_draws_by_loops() -> None:
    figures = calibrated(BOOTSTRAP, pair_blocks(FRAME), fitted(BOOTSTRAP, pair_blocks(VALIDATION)))
    frame = FRAME.filter(regime="helpful")
    every = differences(frame)
    edges = np.quantile(1 / (1 + np.exp(-np.abs(every))), np.arange(1, BINS) / BINS)
    temperature = row_of(figures["temperature"], regime="helpful")[0]
    # Draws are moved so that their mean is the estimate.
    errors = [error_by_loops(differences(frame, drawn(frame, draw)), edges) for draw in range(1, 41)]
    excess = row_of(figures["ece"], regime="helpful")[0] - np.mean(errors)
    assert excess < 0
    once = dict.fromkeys(frame["comparison_id"].to_list(), 1)
    assert row_of(figures["squared_ce"], regime="helpful")[0] == pytest.approx(squared_by_loops(frame, once))
    for draw in (1, 17, 40):
        times = drawn(frame, draw)
        d = differences(frame, times)
        assert row_of(figures["squared_ce"], regime="helpful")[draw] == pytest.approx(squared_by_loops(frame, times))
        expected = {"ece": error_by_loops(d, edges) + excess, "brier": np.mean((1 / (1 + np.exp(d))) ** 2),
                    "log_loss": np.mean(np.log1p(np.exp(-d))),
                    "rescaled_log_loss": np.mean(np.log1p(np.exp(-d / temperature)))}  # fmt: skip
        found = {name: row_of(figures[name], regime="helpful")[draw] for name in expected}
        assert found == pytest.approx(expected, rel=1e-10)


def test_temperature_is_where_the_loss_is_least() -> None:
    fit = fitted(BOOTSTRAP, pair_blocks(VALIDATION))
    for regime, draw in product(("helpful", "harmless"), (0, 1, 25)):
        frame = VALIDATION.filter(regime=regime)
        d = differences(frame, drawn(frame, draw) if draw else None)
        least = minimize_scalar(lambda log_t, d=d: np.logaddexp(0, -d / np.exp(log_t)).sum(), bounds=(-4, 4),
                                method="bounded", options={"xatol": 1e-12})  # fmt: skip
        assert row_of(fit, regime=regime)[draw] == pytest.approx(np.exp(least.x), rel=1e-5)
        # and to the last digits: the slope there is zero
        slope = (d / (1 + np.exp(d / row_of(fit, regime=regime)[draw]))).sum()
        assert slope == pytest.approx(0, abs=1e-10 * np.abs(d).sum())


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        # Three right and one wrong of the same size: sigmoid(d / T) is 3 / 4.
        ([2.0, 2.0, 2.0, -2.0], 2 / math.log(3)),
        ([8.0, 8.0, 8.0, -8.0], 8 / math.log(3)),
        ([1.0, 3.0], 0.01),  # never wrong: as sure as can be
        ([-1.0, -3.0], 100.0),  # never right: as unsure as can be
        ([1.0, -1.0], 100.0),
        ([0.0, 0.0], 100.0),  # nothing to go by
    ],
)
def test_temperature_by_hand(difference: list[float], expected: float) -> None:
    d = np.array(difference)
    assert temperatures(d, np.ones((len(d), 1)))[0] == pytest.approx(expected, rel=1e-12)


def test_a_temperature_at_an_end_of_its_range_is_none() -> None:
    """Beside it, a reward model that is never right has all but a coin's loss, and one that is never wrong none: it
    would be made by that end alone."""
    ahead = pl.when(pl.col("regime") == "helpful").then(pl.lit(-50.0)).otherwise(pl.lit(50.0))
    fit = fitted(BOOTSTRAP, pair_blocks(VALIDATION.with_columns(chosen_scores=pl.concat_list(ahead.cast(pl.Float32)))))
    assert set(row_of(fit, regime="helpful")) == {100} and set(row_of(fit, regime="harmless")) == {0.01}
    figures = calibrated(BOOTSTRAP, pair_blocks(FRAME), fit)
    assert np.isnan(figures["temperature"].values).all()
    loss = np.mean(np.log1p(np.exp(-differences(FRAME.filter(regime="helpful")) / 100)))
    assert row_of(figures["rescaled_log_loss"], regime="helpful")[0] == pytest.approx(loss)
    assert loss == pytest.approx(math.log(2), abs=0.01)
    assert np.isnan(row_of(figures["rescaled_log_loss"], regime="harmless")).all()


def test_scores_that_are_too_large_are_mended_by_their_temperature_alone() -> None:
    """Four times the scores: another error and loss, four times the temperature, and the same loss beside it."""
    larger = [pl.col(side).list.eval(pl.element() * 4) for side in LISTS]
    one, four = (
        calibrated(BOOTSTRAP, pair_blocks(f), fitted(BOOTSTRAP, pair_blocks(v)))
        for f, v in ((FRAME, VALIDATION), (FRAME.with_columns(larger), VALIDATION.with_columns(larger)))
    )
    assert four["temperature"].values == pytest.approx(4 * one["temperature"].values, rel=1e-9)
    assert four["rescaled_log_loss"].values == pytest.approx(one["rescaled_log_loss"].values, rel=1e-9)
    assert (four["log_loss"].values > one["log_loss"].values).all()


def test_undefined_without_a_pair_or_a_validation_split() -> None:
    none = pl.when(pl.col("regime") != "helpful").then(pl.col(*LISTS))
    fit = fitted(BOOTSTRAP, pair_blocks(VALIDATION.with_columns(none)))
    assert np.isnan(row_of(fit, regime="helpful")).all() and not np.isnan(row_of(fit, regime="harmless")).any()
    figures = calibrated(BOOTSTRAP, pair_blocks(FRAME.with_columns(none)), fit)
    assert np.isnan(row_of(figures["ece"], regime="helpful")).all()
    figures = calibrated(BOOTSTRAP, pair_blocks(FRAME), fit)
    assert np.isnan(row_of(figures["rescaled_log_loss"], regime="helpful")).all()
    assert not np.isnan(row_of(figures["log_loss"], regime="helpful")).any()


def test_curves_count_every_pair_once() -> None:
    figures = curves(BOOTSTRAP, pair_blocks(FRAME))
    d = differences(FRAME.filter(regime="helpful"))
    sure = 1 / (1 + np.exp(-np.abs(d)))
    for left in np.linspace(0.5, 0.95, 10):
        here = (sure > left) & (sure <= left + 0.05 + 1e-12) if left > 0.5 else sure <= 0.55
        keys = {"regime": "helpful"}
        rows = {name: figure.filter((pl.col("left") - left).abs() < 1e-9, **keys) for name, figure in figures.items()}
        assert rows["share"].values[0, 0] == pytest.approx(100 * here.mean())
        if here.any():
            assert rows["confidence"].values[0, 0] == pytest.approx(sure[here].mean())
            assert rows["accuracy"].values[0, 0] == pytest.approx(100 * (d[here] > 0).mean())


@pytest.mark.parametrize(
    ("signs", "size", "expected"),
    [
        # Scores that tell nothing apart say so, and are right half of the time.
        ([1] * 8, 0.0, {"ece": 0, "squared_ce": 0, "brier": 0.25, "log_loss": math.log(2)}),
        ([1] * 8, 1e4, {"ece": 0, "squared_ce": 0, "brier": 0, "log_loss": 0}),
        # As sure as can be, and every second time wrong. Gaps of 0 and -1: of 56 products 12 are 1.
        ([1, -1] * 4, 1e4, {"ece": 0.5, "squared_ce": 12 / 56, "brier": 0.5, "log_loss": 5e3}),
    ],
)
def test_ties_and_scores_far_apart_by_hand(signs: list[int], size: float, expected: dict[str, float]) -> None:
    frame = scores("bench", {"a": (8, 1, 1)}, 1, 0).filter(regime="helpful")
    chosen = pl.Series("chosen_scores", [[sign * size] for sign in signs], LISTS["chosen_scores"])
    blocks = pair_blocks(frame.with_columns(chosen, rejected_scores=pl.lit([0.0], LISTS["rejected_scores"])))
    figures = calibrated(BOOTSTRAP, blocks, fitted(BOOTSTRAP, pair_blocks(VALIDATION)))
    assert {name: figures[name].values[0, 0] for name in expected} == pytest.approx(expected)
    accuracy = curves(BOOTSTRAP, blocks)["accuracy"].values[:, 0]
    assert accuracy[~np.isnan(accuracy)] == pytest.approx([100 * np.heaviside(signs, 0.5).mean() if size else 50])
