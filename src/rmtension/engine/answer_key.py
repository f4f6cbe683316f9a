"""What scorings, ablations, patches and gradients say of reward models whose circuits are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from rmtension.base.progress import Progress
from rmtension.engine.ablation import Mask, by_layer
from rmtension.engine.activations import activation_statistics
from rmtension.engine.attribution import attributions
from rmtension.engine.conflict import neuron_conflicts
from rmtension.engine.evaluation import candidate_scores
from rmtension.engine.packing import Packed
from rmtension.engine.passes import candidate_values
from rmtension.engine.patching import patched_scores
from rmtension.engine.planted import KINDS, READ, Planted, pairs, planted_model
from rmtension.neurons.ranking import NEURON, NO_SETS, mean_values, rankings
from rmtension.study.naming import ranks_heads
from rmtension.study.scorings import SCORINGS, Neurons

BOTH = "both"  # the reward model of all objectives together
FOUND = {
    **dict.fromkeys(["reward_model", "scoring", "kind"], pl.String()),
    **dict.fromkeys(["seed", "n_planted", "n_found"], pl.Int64()),
}
EFFECTS = {
    **dict.fromkeys(["reward_model", "kind", "effect", "pairs"], pl.String()),
    "seed": pl.Int64(),
    "value": pl.Float64(),
}
BUDGET = 4096  # tokens at a time: the models are tiny
CPU = torch.device("cpu")


class Key(NamedTuple):
    """Reward models with planted neurons, by name; the backbone that they come from; pairs by objective."""

    settings: Planted
    base: Any
    models: Mapping[str, Any]
    train: Mapping[str, list[Packed]]
    test: Mapping[str, list[Packed]]

    @classmethod
    def of(cls, settings: Planted) -> Key:
        objectives = list(settings.objectives)
        models = {name: planted_model(settings, name) for name in objectives}
        train, test = ({name: pairs(settings, name, split) for name in objectives} for split in ("train", "test"))
        models[BOTH] = planted_model(settings, *objectives)
        return cls(settings, planted_model(settings), models, train, test)

    def own(self, name: str) -> list[Packed]:
        """The train pairs of a reward model's objectives."""
        return [pair for objective, of in self.train.items() if name in (objective, BOTH) for pair in of]

    def matter(self, name: str) -> list[str]:
        """Kinds whose neurons add to a reward model's rewards: the one of both reads nothing by the opposed ones."""
        if name == BOTH:
            sums = {kind: sum(likes.get(kind, 0) for likes in self.settings.objectives.values()) for kind in READ}
            return [kind for kind in READ if sums[kind]]
        return [kind for kind in READ if self.settings.objectives[name].get(kind)]

    def neurons(self, kind: str) -> pl.DataFrame:
        """unit, layer, neuron of those planted."""
        places = pl.DataFrame(self.settings.places()[kind], schema=dict.fromkeys(NEURON, pl.Int32), orient="row")
        return places.select(pl.lit("neuron").alias("unit"), *NEURON)


def answer_key(settings: Planted, neurons: Neurons) -> tuple[pl.DataFrame, pl.DataFrame]:
    """FOUND and EFFECTS of all that is planted, each time with other random weights and pairs.

    neurons: the study's, whose words `magnitude` and random seed are taken; every scoring of neurons is tried.
    """
    found, effects = [], []
    progress = Progress("answer key", settings.repeats, "times")
    for seed in range(settings.repeats):
        key = Key.of(settings._replace(seed=settings.seed + seed))
        statistics = {
            name: activation_statistics(model, key.base, key.own(name), BUDGET, CPU)
            for name, model in key.models.items()
        }
        for name, of_model in statistics.items():
            found.append(found_in(key, name, of_model.neurons, of_model.heads, neurons).with_columns(seed=seed))
        means = {name: mean_values(of_model.neurons) for name, of_model in statistics.items()}
        changes = list(ablations(key, means))
        known = {(name, objective): value for name, _, effect, objective, value in changes if effect == "baseline"}
        rows = [*changes, *patches(key, known), *conflicts(key)]
        columns = [name for name in EFFECTS if name != "seed"]
        effects.append(pl.DataFrame(rows, schema=columns, orient="row").with_columns(seed=seed))
        progress.advance(1)
    return (
        pl.concat(found).select(pl.col(name).cast(kind) for name, kind in FOUND.items()),
        pl.concat(effects).select(pl.col(name).cast(kind) for name, kind in EFFECTS.items()),
    )


def found_in(key: Key, name: str, statistics: pl.DataFrame, heads: pl.DataFrame, neurons: Neurons) -> pl.DataFrame:
    """Of each kind, how many are among as many neurons, the best by each scoring, as there are that matter."""
    scorings = [scoring for scoring in SCORINGS if not ranks_heads(scoring)]
    all_of_them = neurons.model_copy(update={"scorings": scorings})
    of_pairs = attributions(key.models[name], key.own(name), BUDGET, CPU)
    ranked = rankings(statistics, heads, of_pairs, all_of_them, "magnitude", ["planted", name, str(key.settings.seed)])
    n = sum(key.settings.planted[kind] for kind in key.matter(name))
    top = ranked.filter(pl.col("rank") <= n)
    frames = []
    for kind in KINDS:
        planted = key.neurons(kind)
        counts = top.join(planted, on=planted.columns, how="semi").group_by("scoring").agg(n_found=pl.len())
        of_kind = pl.DataFrame({"scoring": scorings}).join(counts, on="scoring", how="left", maintain_order="left")
        frames.append(
            of_kind.with_columns(
                pl.col("n_found").fill_null(0), reward_model=pl.lit(name), kind=pl.lit(kind), n_planted=len(planted)
            )
        )
    return pl.concat(frames)


def percent_right(rewards: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of rewards [rows, 2 * pairs], chosen before rejected."""
    right: np.ndarray[Any, np.dtype[np.float64]] = 100 * (rewards[:, 0::2] > rewards[:, 1::2]).mean(axis=1)
    return right


Row = tuple[str, str, str, str, float | None]  # of EFFECTS, but for the seed


def ablations(key: Key, means: Mapping[str, pl.DataFrame]) -> Iterator[tuple[str, str, str, str, float]]:
    """By how many points each reward model's accuracy on each objective's pairs changes without a kind."""
    for (name, model), (objective, test) in product(key.models.items(), key.test.items()):
        masks = [Mask.of(NO_SETS, model.config)]
        named = list(product(("zeroed", "averaged"), KINDS))
        masks += [Mask.of(key.neurons(k), model.config, means[name] if how == "averaged" else None) for how, k in named]
        none, *ablated = percent_right(candidate_scores(model, test, masks, BUDGET, CPU))
        yield name, "", "baseline", objective, none
        for (how, kind), accuracy in zip(named, ablated, strict=True):
            yield name, kind, how, objective, accuracy - none


def patches(key: Key, known: Mapping[tuple[str, str], float]) -> Iterator[Row]:
    """What of the gap to each single reward model, on its own pairs, its activations of a kind win back.

    known: percent right of each reward model on each objective's pairs.
    """
    sets = [by_layer(Mask.of(key.neurons(kind), key.base.config).neurons, CPU) for kind in KINDS]
    for objective, test in key.test.items():
        find = partial(patched_scores, key.models[BOTH], [key.models[objective]], sets)
        before, own = known[BOTH, objective], known[objective, objective]
        after = percent_right(candidate_values("patching", find, test, len(sets), np.float32, BUDGET, CPU))
        for kind, accuracy in zip(KINDS, after, strict=True):
            yield BOTH, kind, "recovery", objective, (accuracy - before) / (own - before)


def conflicts(key: Key) -> Iterator[Row]:
    """How the objectives' gradients stand to each other at a kind, in the reward model of both."""
    first, second = key.settings.objectives
    every = {name: key.train[name] + key.test[name] for name in (first, second)}  # nothing was trained on any
    found = neuron_conflicts(key.models[BOTH], every, [(first, second)], key.settings.seed, BUDGET, CPU)
    for kind in KINDS:
        sums = found.join(key.neurons(kind), on=NEURON, how="semi").select(pl.col(pl.Float64).sum()).row(0, named=True)
        squares = sums["first_first"] * sums["second_second"]
        known = min(sums["first_first"], sums["second_second"]) > 0
        yield BOTH, kind, "cosine", BOTH, sums["first_second"] / squares**0.5 if known else None
        yield BOTH, kind, "opposed", BOTH, sums["opposed"] / sums["square"]
