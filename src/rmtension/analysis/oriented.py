"""The oriented neurons of each model, as arrays over its layers and their neurons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rmtension.analysis.resampling import Array
from rmtension.analysis.statistics import REWARD_MODEL
from rmtension.neurons.ranking import NEURON
from rmtension.study.naming import set_size
from rmtension.study.study import Study

FIRST = 10  # neurons of each reward model in `top_neurons`
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Oriented:
    """Which of a model's neurons (or heads) are oriented by one scoring: R regimes, S seeds, L layers of N each."""

    model: str
    scoring: str
    regimes: list[str]
    seeds: list[int]
    n_all: int  # of how many
    ranks: NDArray[np.int32]  # [R, S, L, N] from 1, of the oriented neurons of each seed; 0 of all others
    authors: Mask | None  # [R, L, N] of scores averaged over seeds; None where scores are drawn
    first: pl.DataFrame  # regime, seed, rank, layer, neuron, score of the FIRST ones

    def sets(self, regime: str) -> Iterator[tuple[str, int, Mask]]:
        """selection, seed and the set [L, N], where it holds any: under `exact` one for each seed, under `authors` one
        for all, which stands under the first."""
        row = self.regimes.index(regime)
        found = [("exact", seed, ranks > 0) for seed, ranks in zip(self.seeds, self.ranks[row], strict=True)]
        found += [] if self.authors is None else [("authors", self.seeds[0], self.authors[row])]
        return (one for one in found if one[-1].any())


def by_reward_model(frames: Iterable[pl.DataFrame]) -> Iterator[tuple[tuple[str, str, int], pl.DataFrame]]:
    """model, regime and seed, and their rows, of one after the other."""
    for frame in frames:
        for (model, regime, seed), part in frame.group_by(REWARD_MODEL, maintain_order=True):
            yield (str(model), str(regime), int(str(seed))), part


def model_of(found: tuple[tuple[str, str, int], pl.DataFrame]) -> str:
    return found[0][0]


def oriented(frames: Iterable[pl.DataFrame], study: Study) -> Iterator[Oriented]:
    """Of each model and scoring; frames: see load_rankings."""
    regimes, seeds = study.with_neurons(), study.seeds
    for model, of_model in groupby(by_reward_model(frames), model_of):
        rankings: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        for (_, regime, seed), frame in of_model:
            for (scoring,), part in frame.group_by("scoring", maintain_order=True):
                place: Any = tuple(part[name].to_numpy() for name in NEURON)
                shape = (len(regimes), len(seeds), *(int(of.max()) + 1 for of in place))
                unranked: tuple[NDArray[Any], NDArray[Any]] = np.full(shape, np.nan), np.zeros(shape, np.int32)
                for values, name in zip(rankings.setdefault(str(scoring), unranked), ("score", "rank"), strict=True):
                    values[regimes.index(regime), seeds.index(seed)][place] = part[name].to_numpy()
        for name, (scores, ranks) in rankings.items():
            yield selected(model, name, scores, ranks, study)


def selected(model: str, scoring: str, scores: Array, ranks: NDArray[np.int32], study: Study) -> Oriented:
    """scores, ranks: [R, S, L, N], NaN and 0 where a layer has fewer neurons than others."""
    regimes, seeds, percent = study.with_neurons(), study.seeds, study.ablation.percent
    n_all = int((ranks[0, 0] > 0).sum())
    row, seed, *place = np.nonzero((ranks > 0) & (ranks <= FIRST))
    at = (row, seed, *place)
    first = pl.DataFrame(
        {"regime": np.array(regimes)[row], "seed": np.array(seeds)[seed], "rank": ranks[at]}
        | dict(zip(NEURON, place, strict=True)) | {"score": scores[at]}
    )  # fmt: skip
    authors = None
    if "random" not in scoring:
        # Added in order of size, as the same seeds in another order give the same last digit.
        averaged = np.maximum(np.sort(scores, axis=1).sum(axis=1) / len(seeds), 0)
        limits = [pl.Series(one[~np.isnan(one)]).quantile(1 - percent / 100, "linear") for one in averaged]
        authors = averaged >= np.array(limits)[:, None, None]
    oriented_ = np.where(ranks <= set_size(percent, n_all), ranks, 0)
    return Oriented(model, scoring, regimes, seeds, n_all, oriented_, authors, first)
