"""Every pair of one chosen and one rejected response of a comparison, for figures that look at pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rmtension.analysis.resampling import Array, Terms, product
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Bootstrap, membership

PLACE = ["comparison", "i", "j"]  # of a pair: its comparison, and which of its chosen and rejected responses
SIDES = ["chosen_scores", "rejected_scores"]


@dataclass(frozen=True)
class PairBlock:
    """All pairs of one task of one benchmark: U units, the same in all tasks of a benchmark, C comparisons, P pairs."""

    benchmark: str
    orientation: str
    task: str
    units: pl.DataFrame  # [U] model, regime, seed, ablation
    ids: pl.Series  # [C] comparison_id
    places: pl.DataFrame  # [P] PLACE
    difference: Array  # [U, P] reward of the chosen minus that of the rejected response, NaN where not scored

    @property
    def scored(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.difference)

    def of_units(self, *predicates: pl.Expr) -> PairBlock:
        """Of those units alone that match."""
        kept = self.units.with_row_index("row").filter(*predicates)
        return replace(self, units=kept.drop("row"), difference=self.difference[kept["row"].to_numpy()])

    def without_pairs(self) -> PairBlock:
        return replace(self, places=self.places.clear(), difference=self.difference[:, :0])

    def counts(self, bootstrap: Bootstrap) -> NDArray[np.float32]:
        """How often each comparison is drawn [C, 1 + draws]: as for all that is made of them."""
        return bootstrap.counts(len(self.ids), self.benchmark, self.task)

    @cached_property
    def member(self) -> csr_array:
        """[P, C] 1 where a pair is of a comparison."""
        comparison, n = self.places["comparison"].to_numpy(), len(self.places)
        return csr_array((np.ones(n), (np.arange(n), comparison)), shape=(n, len(self.ids)))

    def by_comparison(self, terms: Terms) -> Array:
        """Sums [rows, C] of terms [rows, P] over the pairs of each comparison."""
        return np.asarray(terms.astype(np.float64) @ self.member)

    def sums(self, bootstrap: Bootstrap, terms: Terms) -> Array:
        """Sums [rows, 1 + draws] of terms [rows, P] over all pairs; comparisons are what is resampled."""
        return product(self.by_comparison(terms), self.counts(bootstrap), is_whole=terms.dtype == np.bool_)


def pair_blocks(lists: pl.DataFrame) -> list[PairBlock]:
    """One block a task of a frame: model, regime, seed, benchmark, ablation, comparison_id, orientation, task,
    chosen_scores and rejected_scores (null where not scored). Tasks without any pair are left out."""
    made = []
    for (benchmark,), whole in lists.group_by("benchmark", maintain_order=True):
        units, unit = membership(whole, [*REWARD_MODEL, "ablation"])
        units, numbered = units.cast({cs.categorical(): pl.String}), whole.with_columns(unit=pl.Series(unit))
        for (orientation, task), part in numbered.group_by(TASK, maintain_order=True):
            ids, places, difference = differences(part, len(units))
            if len(places):
                made.append(PairBlock(str(benchmark), str(orientation), str(task), units, ids, places, difference))
    return made


def differences(part: pl.DataFrame, n_units: int) -> tuple[pl.Series, pl.DataFrame, Array]:
    """`ids`, `places` and `difference` of a task; part: its rows of all units, with their number `unit`."""
    ids, comparison = membership(part, ["comparison_id"])
    scored = part.select("unit", *SIDES).with_columns(comparison=pl.Series(comparison)).drop_nulls()
    pairs = crossed(scored, SIDES)
    places = pairs.select(PLACE).unique().sort(PLACE)
    column = pairs.select(PLACE).join(places.with_row_index("column"), on=PLACE, how="left", maintain_order="left")
    chosen, rejected = (pairs[side].cast(pl.Float64).to_numpy() for side in SIDES)
    difference = np.full((n_units, len(places)), np.nan)
    difference[pairs["unit"].to_numpy(), column["column"].to_numpy()] = chosen - rejected
    return ids["comparison_id"].cast(pl.String), places, difference


def crossed(frame: pl.DataFrame, sides: Sequence[str]) -> pl.DataFrame:
    """A row for each pair of an element of the first list and one of the second, with their places i and j."""
    for place, side in zip("ij", sides, strict=True):
        frame = frame.with_columns(pl.int_ranges(pl.col(side).list.len()).alias(place)).explode(side, place)
    return frame
