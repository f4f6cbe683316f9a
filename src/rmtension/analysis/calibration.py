"""How far a reward model's probability that the chosen response is the better one can be taken at its word.

Of a pair, p = sigmoid(chosen - rejected) is the Bradley-Terry probability that training fits, and max(p, 1 - p) its
confidence. Formulas and their sources: docs/methods.md, section 12.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import polars as pl
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from rmtension.analysis.pairs import PairBlock
from rmtension.analysis.resampling import Array, Terms, divide, product, tiles
from rmtension.analysis.statistics import REWARD_MODEL, Bootstrap, Draws, concat

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

    def slopes(logs: Array, weights: Array = weights) -> Array:
        """By the logarithm of beta [n], of each weighting [n, D]."""
        return np.asarray(-(difference * expit(-np.exp(logs)[:, None] * difference)) @ weights)

    grid, half = np.linspace(-np.log(MOST), -np.log(LEAST), 65), 0.4
    near = grid[(slopes(grid[:-1], weights[:, :1]) < 0).sum()]  # of the first weighting, from which few are far
    while True:
        first, last = np.clip([near - half, near + half], grid[0], grid[-1])
        below, above = slopes(np.array([first, last]))
        if (first == grid[0] or (below < 0).all()) and (last == grid[-1] or (above > 0).all()):
            break
        half *= 2
    middle, half = (first + last) / 2, (last - first) / 2
    # As functions of log beta slopes have no pole within pi / 2 of the real line, whatever the differences are: so many
    # nodes give them to 13 digits in between (Bernstein's ellipse), and their zeros take no pass over pairs.
    n = math.ceil(30 / np.arcsinh(np.pi / 2 / half))
    nodes = chebyshev.chebpts1(n)
    terms = 2 / n * chebyshev.chebvander(nodes, n - 1).T @ slopes(middle + half * nodes)
    terms[0] /= 2
    steepness = chebyshev.chebder(terms) / half
    zero = np.full(weights.shape[1], middle)
    for step in half / 2.0 ** np.arange(1, 9):  # bisection, and then Newton's, of which each doubles the digits
        zero -= step * np.sign(chebyshev.chebval((zero - middle) / half, terms, tensor=False))
    for _ in range(5):
        slope, steep = (chebyshev.chebval((zero - middle) / half, of, tensor=False) for of in (terms, steepness))
        zero = np.clip(zero - divide(slope, steep), first, last)
    within = np.exp(-np.round(zero, 12))  # in the digits behind, the number of threads leaves a trace
    found = np.where(below >= 0, MOST, np.where(above <= 0, LEAST, within))
    return np.where(count > 0, found, np.nan)


# --- all pairs of a benchmark --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Benchmark:
    """U units, C comparisons and P pairs of all tasks of a benchmark."""

    units: pl.DataFrame  # [U] UNIT
    name: str
    comparison: NDArray[np.int64]  # [P] which it is of
    difference: Array  # [U, P] see PairBlock
    drawn: NDArray[np.float32]  # [C, 1 + draws] how often each comparison is

    def sums(self, terms: Terms) -> Array:
        """Sums [U, 1 + draws] of terms [U, P] over the pairs that are scored."""
        every = self.binned(terms.astype(np.float64), np.zeros_like(self.difference, np.int64), 1).toarray()
        return product(every, self.drawn, is_whole=terms.dtype == np.bool_)

    def binned(self, terms: Array, bins: NDArray[np.int64], n: int) -> csr_array:
        """Sums [U * n, C] of terms [U, P] over a comparison's scored pairs in each of the n bins that `bins` [U, P]
        says: a comparison is in few of them."""
        unit, pair = np.nonzero(~np.isnan(self.difference))
        places = unit * n + bins[unit, pair], self.comparison[pair]
        return csr_array((terms[unit, pair], places), shape=(len(self.units) * n, len(self.drawn)))

    def tiles(self) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
        """The columns of some draws, and how often each comparison is drawn in them [C, n]."""
        return ((columns, np.ascontiguousarray(self.drawn[columns])) for columns in tiles(self.drawn.shape[1]))


def benchmarks(bootstrap: Bootstrap, blocks: Sequence[PairBlock]) -> Iterator[Benchmark]:
    for name, of in groupby(blocks, lambda block: block.benchmark):
        tasks = list(of)
        first = np.cumsum([0, *(len(task.ids) for task in tasks)])
        comparison = [task.places["comparison"].to_numpy() + at for task, at in zip(tasks, first, strict=False)]
        difference = np.concatenate([task.difference for task in tasks], axis=1)
        drawn = np.concatenate([task.counts(bootstrap) for task in tasks])
        yield Benchmark(tasks[0].units, name, np.concatenate(comparison).astype(np.int64), difference, drawn)


def fitted(bootstrap: Bootstrap, blocks: Sequence[PairBlock]) -> Draws:
    """The temperature of every unit on all pairs of the blocks, which are of one benchmark, LEAST or MOST where it
    would lie beyond; undefined without any."""
    (whole,) = benchmarks(bootstrap, blocks)
    weights = whole.drawn[whole.comparison].astype(np.float64)
    values = np.full((len(whole.units), 1 + bootstrap.draws), np.nan)
    for row, difference in zip(values, whole.difference, strict=True):
        row[:] = temperatures(difference, weights)
    return Draws(whole.units, values)


# --- figures -------------------------------------------------------------------------------------------------


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


def calibration_errors(whole: Benchmark) -> tuple[Array, Array]:
    """Expected calibration error [U, 1 + draws]: mean over pairs of |share right - mean confidence| of their bin. And
    squared calibration error: mean over pairs of the mean product of the gaps (right or not, less confidence) of two
    pairs of different comparisons in their bin, which chance in who is right makes no larger; a bin of one comparison
    is left out."""
    sure, shape = confidence(whole.difference), (len(whole.units), BINS, -1)
    bins = in_bins(sure, equal_mass(whole.difference))
    gaps = whole.binned(right(whole.difference) - sure, bins, BINS)
    pairs = whole.binned(np.ones_like(sure), bins, BINS).astype(np.float32)  # of whole numbers exact
    error, squared = np.empty((2, len(whole.units), whole.drawn.shape[1]))
    for columns, times in whole.tiles():
        exact = times.astype(np.float64)
        total, count = (gaps @ exact).reshape(shape), (pairs @ times).astype(np.float64).reshape(shape)
        # Of each comparison with itself.
        own, same = (gaps.power(2) @ exact**2).reshape(shape), (pairs.power(2) @ times**2).reshape(shape)
        products = divide(total**2 - own, count**2 - same)
        error[columns] = divide(np.abs(total).sum(axis=1), count.sum(axis=1))
        of_known = np.where(np.isnan(products), 0, count).sum(axis=1)
        squared[columns] = divide(np.nansum(count * products, axis=1), of_known)
    return centred(error), squared


def centred(figure: Array) -> Array:
    """With draws moved to have the estimate as their mean: resampling alone makes an error larger."""
    drawn = figure[:, 1:]
    known = ~np.isnan(drawn)
    mean = divide(np.where(known, drawn, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
    return np.concatenate([figure[:, :1], drawn + (figure[:, 0] - mean)[:, None]], axis=1)


def measured(whole: Benchmark, temperature: Array) -> dict[str, Draws]:
    """FIGURES of every unit; temperature [U], NaN where unknown."""
    difference = whole.difference
    scored = whole.sums(~np.isnan(difference))
    terms = brier(difference), log_loss(difference), log_loss(difference / temperature[:, None])
    values = [*calibration_errors(whole), *(divide(whole.sums(term), scored) for term in terms)]
    keys = whole.units.with_columns(benchmark=pl.lit(whole.name))
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
    for whole in benchmarks(bootstrap, blocks):
        own = whole.units.join(known, on=UNIT, how="left", maintain_order="left")["temperature"]
        parts.append(measured(whole, own.cast(pl.Float64).fill_null(np.nan).to_numpy()))
    figures = {name: concat([part[name] for part in parts]) for name in FIGURES}
    names = figures["ece"].keys
    return figures | {"temperature": temperature.joined(names.select(*UNIT, "benchmark"), UNIT)}


def curves(bootstrap: Bootstrap, blocks: Sequence[PairBlock]) -> dict[str, Draws]:
    """Of the pairs in each bin of SHOWN: percent of all pairs (share), mean confidence, and percent right (accuracy).

    Keyed by UNIT, benchmark, left and right (edges of the bin); undefined for a bin without pairs, a share of 0.
    """
    parts: dict[str, list[Draws]] = {"share": [], "confidence": [], "accuracy": []}
    edges = pl.DataFrame({"left": SHOWN[:-1], "right": SHOWN[1:]})
    for whole in benchmarks(bootstrap, blocks):
        units, n, sure = whole.units, len(edges), confidence(whole.difference)
        bins = in_bins(sure, np.tile(SHOWN[1:-1], (len(units), 1)))
        pairs, good = (  # whole numbers and halves, of which single precision is exact
            whole.binned(term, bins, n).astype(np.float32) for term in (np.ones_like(sure), right(whole.difference))
        )
        confidences = whole.binned(sure, bins, n)
        figures = {name: np.empty((len(units) * n, whole.drawn.shape[1])) for name in parts}
        for columns, times in whole.tiles():
            count = (pairs @ times).astype(np.float64)
            every = count.reshape(len(units), n, -1).sum(axis=1).repeat(n, axis=0)
            figures["share"][columns] = 100 * divide(count, every)
            figures["confidence"][columns] = divide(confidences @ times.astype(np.float64), count)
            figures["accuracy"][columns] = 100 * divide((good @ times).astype(np.float64), count)
        keys = units.with_columns(benchmark=pl.lit(whole.name)).join(edges, how="cross", maintain_order="left")
        for name, figure in figures.items():
            parts[name].append(Draws(keys, figure))
    return {name: concat(several) for name, several in parts.items()}
