"""The arithmetic of draws: how often each thing is drawn, and sums over what is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

COLUMNS = 256  # of draws that are added up at once: what that takes besides its result is no matter then

Array = NDArray[np.float64]
Terms = NDArray[np.bool_] | NDArray[np.float64]


def tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """The parts of [rows, n] that are added up one after the other."""
    return (np.s_[:, first : first + COLUMNS] for first in range(0, n, COLUMNS))


def divide(numerator: Array, denominator: Array) -> Array:
    """Quotients; NaN where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(numerator / denominator)
    found[np.broadcast_to(denominator == 0, found.shape)] = np.nan
    return found


@cache
def resampled_counts(n: int, draws: int, seed: int, name: tuple[str, ...]) -> NDArray[np.float32]:
    """Of `draws` times n draws with replacement from n things, how often each was drawn; a column of ones in front."""
    generator = np.random.default_rng([seed, zlib.crc32("\n".join(name).encode())])
    drawn = generator.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n).T
    return np.concatenate([np.ones((n, 1)), counts], axis=1, dtype=np.float32)


def is_constant(values: Array) -> bool:
    """Whether no draw differs from the estimate. One that does is mostly the first."""
    return all(
        np.array_equal(some, np.broadcast_to(some[:, :1], some.shape), equal_nan=True)
        for some in (values[:, :2], values)
    )


def product(terms: Terms, weights: NDArray[np.float32], is_whole: bool) -> Array:
    """terms @ weights. Where all terms are whole numbers, single precision is exact, at half the work, and of rows that
    are the same, as those of what was scored mostly are, one does for all."""
    if not is_whole:
        return np.asarray(terms.astype(np.float64) @ weights.astype(np.float64))
    numbers: dict[bytes, int] = {}
    of = [numbers.setdefault(row.tobytes(), len(numbers)) for row in terms]
    once = terms[np.unique(of, return_index=True)[1]]
    return np.asarray((once.astype(np.float32) @ weights)[of], np.float64)
