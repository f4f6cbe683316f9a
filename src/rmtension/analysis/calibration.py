"""How far a reward model's probability that the chosen response is the better one can be taken at its word.

Of a pair, p = sigmoid(chosen - rejected) is the Bradley-Terry probability that training fits, and max(p, 1 - p) its
confidence. Formulas and their sources: docs/methods.md, section 12.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import expit

from rmtension.analysis.pairs import PairBlock
from rmtension.analysis.statistics import REWARD_MODEL, Array, Bootstrap, Draws, concat, divide, product

UNIT = [*REWARD_MODEL, "ablation"]
BINS = 15  # of equal mass
SHOWN = np.linspace(0.5, 1, 11)  # edges of the bins of equal width that curves are drawn of
LEAST, MOST = 0.01, 100.0  # of a temperature: at either end there is none, as the loss is less beyond
UNABLATED = "unablated"  # a reward model itself, as what it is held against
FIGURES = ["ece", "squared_ce", "brier", "log_loss", "rescaled_log_loss"]


def log_loss(difference: Array) -> Array:
    """-log sigmoid(chosen - rejected), in nats."""
    with np.errstate(invalid="ignore"):  # NaN, where not scored
        return np.logaddexp(0, -difference)


def brier(difference: Array) -> Array:
    """(1 - p) squared."""
    return np.asarray(expit(-difference)) ** 2


def confidence(difference: Array) -> Array:
    """Probability by the model of the response that it prefers."""
    return np.asarray(expit(np.abs(difference)))


def right(difference: Array) -> Array:
    """1, or 0, or of a tie a half: which of the two is named chosen tells nothing about a p of 1/2."""
    return np.heaviside(difference, 0.5)


# --- temperature ---------------------------------------------------------------------------------------------


def temperatures(difference: Array, weights: Array) -> Array:
    """The temperature [D] at which the log loss of the differences [P], weighted by each column [P, D], is least.

    The loss is convex in beta, one over the temperature: its slope has one zero, or none, then an end of the range.
    Differences may be NaN, where not scored; undefined for a weighting without any that is.
    """
    count = (~np.isnan(difference)).astype(np.float64) @ weights
    difference = np.nan_to_num(difference)  # adds nothing to a slope

    def slopes(logs: Array) -> Array:
        """By the logarithm of beta [n], of each weighting [n, D]."""
        return np.asarray(-(difference * expit(-np.exp(logs)[:, None] * difference)) @ weights)

    grid, columns = np.linspace(-np.log(MOST), -np.log(LEAST), 17), np.arange(weights.shape[1])
    slope = slopes(grid)
    right = np.clip((slope < 0).sum(axis=0), 1, len(grid) - 1)
    low, high, below, above = grid[right - 1], grid[right], slope[right - 1, columns], slope[right, columns]
    first, last = low.min(), high.max()
    middle, half = (first + last) / 2, (last - first) / 2
    # As functions of log beta slopes have no pole within pi / 2 of the real line, whatever the differences are: so many
    # nodes give them to 13 digits over all brackets (Bernstein's ellipse), and their zeros take no pass over pairs.
    n = math.ceil(30 / np.arcsinh(np.pi / 2 / half))
    nodes = chebyshev.chebpts1(n)
    terms = 2 / n * chebyshev.chebvander(nodes, n - 1).T @ slopes(middle + half * nodes)
    terms[0] /= 2
    steepness = chebyshev.chebder(terms) / half
    zero = low - below * divide(high - low, above - below)
    for _ in range(8):  # Newton's: each doubles the digits
        slope, steep = (chebyshev.chebval((zero - middle) / half, of, tensor=False) for of in (terms, steepness))
        zero = np.clip(zero - divide(slope, steep), low, high)
    within = np.exp(-np.round(zero, 12))  # in the digits behind, the number of threads leaves a trace
    found = np.where(below >= 0, MOST, np.where(above <= 0, LEAST, within))
    return np.where(count > 0, found, np.nan)


def fitted(bootstrap: Bootstrap, blocks: Sequence[PairBlock]) -> Draws:
    """The temperature of every unit on all pairs of the blocks, which are of one benchmark, LEAST or MOST where it
    would lie beyond; undefined without any."""
    values = np.full((len(blocks[0].units), 1 + bootstrap.draws), np.nan)
    weights = np.concatenate([block.weights(bootstrap) for block in blocks])
    for row, difference in zip(values, np.concatenate([block.difference for block in blocks], axis=1), strict=True):
        row[:] = temperatures(difference, weights)
    return Draws(blocks[0].units, values)


# --- figures -------------------------------------------------------------------------------------------------


def benchmarks(blocks: Sequence[PairBlock]) -> Iterator[list[PairBlock]]:
    return (list(of) for _, of in groupby(blocks, lambda block: block.benchmark))


def equal_mass(difference: Array) -> Array:
    """Inner edges [U, BINS - 1] of bins that hold as many of each unit's pairs [U, P]; NaN for a unit without pairs."""
    edges = np.full((len(difference), BINS - 1), np.nan)
    for row, values in zip(edges, confidence(difference), strict=True):
        known = values[~np.isnan(values)]
        row[:] = np.quantile(known, np.arange(1, BINS) / BINS) if len(known) else np.nan
    return edges


def in_bins(confidences: Array, edges: Array) -> NDArray[np.int64]:
    """The bin of each confidence [U, P] between inner edges [U, bins - 1]: ends at, and with, its upper edge."""
    return np.stack([np.searchsorted(e, c) for e, c in zip(edges, confidences, strict=True)])


def calibration_errors(bootstrap: Bootstrap, blocks: Sequence[PairBlock], scored: Array) -> tuple[Array, Array]:
    """Expected calibration error [U, 1 + draws]: mean over pairs of |share right - mean confidence| of their bin. And
    squared calibration error: mean over pairs of the mean product of the gaps (right or not, less confidence) of two
    pairs of different comparisons in their bin, which chance in who is right makes no larger; a bin of one comparison
    is left out."""
    edges = equal_mass(np.concatenate([block.difference for block in blocks], axis=1))
    total, count, own, same = np.zeros((4, BINS, *scored.shape))  # own, same: of each comparison with itself
    for block in blocks:
        sure, times = confidence(block.difference), block.counts(bootstrap)
        exact, squares = times.astype(np.float64), times**2
        bins, gap = in_bins(sure, edges), right(block.difference) - sure
        for number in range(BINS):
            here = (bins == number) & block.scored
            gaps, pairs = block.by_comparison(np.where(here, gap, 0)), block.by_comparison(here)
            total[number] += gaps @ exact
            count[number] += product(pairs, times, is_whole=True)
            own[number] += gaps**2 @ exact**2
            same[number] += product(pairs**2, squares, is_whole=True)
    products = divide(total**2 - own, count**2 - same)
    squared = divide(np.nansum(count * products, axis=0), np.where(np.isnan(products), 0, count).sum(axis=0))
    return centred(divide(np.abs(total).sum(axis=0), scored)), squared


def centred(figure: Array) -> Array:
    """With draws moved to have the estimate as their mean: resampling alone makes an error larger."""
    drawn = figure[:, 1:]
    known = ~np.isnan(drawn)
    mean = divide(np.where(known, drawn, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
    return np.concatenate([figure[:, :1], drawn + (figure[:, 0] - mean)[:, None]], axis=1)


def measured(bootstrap: Bootstrap, blocks: Sequence[PairBlock], temperature: Array) -> dict[str, Draws]:
    """FIGURES of every unit on the one benchmark that the blocks are of; temperature [U], NaN where unknown."""

    def mean(term: Any) -> Array:
        terms = [np.where(block.scored, term(block.difference), 0) for block in blocks]
        total = sum(block.sums(bootstrap, values) for block, values in zip(blocks, terms, strict=True))
        return divide(np.asarray(total), scored)

    scored = np.asarray(sum(block.sums(bootstrap, block.scored) for block in blocks))
    rescaled = mean(lambda difference: log_loss(difference / temperature[:, None]))
    values = [*calibration_errors(bootstrap, blocks, scored), mean(brier), mean(log_loss), rescaled]
    keys = blocks[0].units.with_columns(benchmark=pl.lit(blocks[0].benchmark))
    return {name: Draws(keys, figure) for name, figure in zip(FIGURES, values, strict=True)}


def calibrated(bootstrap: Bootstrap, blocks: Sequence[PairBlock], temperature: Draws) -> dict[str, Draws]:
    """FIGURES, and the temperature beside them, of every unit on every benchmark: keyed by UNIT and benchmark.

    A unit whose estimate is at an end of the range has no temperature, its draws neither. At MOST its rescaled loss is
    nearly a coin's, whatever that end; at LEAST the end itself would make the figure, and there is none.
    """
    known = temperature.frame("temperature").with_columns(pl.col("temperature").replace(LEAST, None))
    fits = (temperature.values[:, :1] > LEAST) & (temperature.values[:, :1] < MOST)
    temperature = Draws(temperature.keys, np.where(fits, temperature.values, np.nan))
    parts = []
    for of in benchmarks(blocks):
        own = of[0].units.join(known, on=UNIT, how="left", maintain_order="left")["temperature"]
        parts.append(measured(bootstrap, of, own.cast(pl.Float64).fill_null(np.nan).to_numpy()))
    figures = {name: concat([part[name] for part in parts]) for name in FIGURES}
    names = figures["ece"].keys
    return figures | {"temperature": temperature.joined(names.select(*UNIT, "benchmark"), UNIT)}


def curves(bootstrap: Bootstrap, blocks: Sequence[PairBlock]) -> dict[str, Draws]:
    """Of the pairs in each bin of SHOWN: percent of all pairs (share), mean confidence, and percent right (accuracy).

    Keyed by UNIT, benchmark, left and right (edges of the bin); undefined for a bin without pairs, a share of 0.
    """
    parts: dict[str, list[Draws]] = {"share": [], "confidence": [], "accuracy": []}
    edges = pl.DataFrame({"left": SHOWN[:-1], "right": SHOWN[1:]})
    for of in benchmarks(blocks):
        units, n = of[0].units, len(edges)
        keys = units.with_columns(benchmark=pl.lit(of[0].benchmark)).join(edges, how="cross", maintain_order="left")
        count, sure, good = np.zeros((3, n, len(units), 1 + bootstrap.draws))
        for block in of:
            confidences = confidence(block.difference)
            bins = in_bins(confidences, np.tile(SHOWN[1:-1], (len(units), 1)))
            for number in range(n):
                here = (bins == number) & block.scored
                count[number] += block.sums(bootstrap, here)
                sure[number] += block.sums(bootstrap, np.where(here, confidences, 0))
                good[number] += block.sums(bootstrap, np.where(here, right(block.difference), 0))
        figures = {
            "share": 100 * divide(count, count.sum(axis=0)),
            "confidence": divide(sure, count),
            "accuracy": 100 * divide(good, count),
        }
        for name, figure in figures.items():
            parts[name].append(Draws(keys, figure.swapaxes(0, 1).reshape(len(keys), -1)))
    return {name: concat(several) for name, several in parts.items()}
