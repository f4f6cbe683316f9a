"""A small answer key: the frames that the engine makes, with made-up numbers."""

from __future__ import annotations

from itertools import product

import polars as pl

from rmtension.analysis.answer_key import ANSWER_KEY
from rmtension.engine.answer_key import BOTH, EFFECTS, FOUND
from rmtension.engine.planted import KINDS


def example_key() -> dict[str, pl.DataFrame]:
    models, seeds = ["helpful", "harmless", BOTH], range(2)
    found = [(m, s, k, i, 6, (len(s) + i) % 7) for i, m, s, k in product(seeds, models, ("mean", "change"), KINDS)]
    effects = [
        (*place, effect, pairs, seed, len(effect) / 10 + seed)
        for seed, place, pairs in product(seeds, product(models, KINDS), models[:2])
        for effect in ("zeroed", "averaged", "recovery", "cosine", "opposed")
    ]
    effects += [(m, "", "baseline", pairs, seed, 80.0) for seed, m, pairs in product(seeds, models, models[:2])]
    frames = pl.DataFrame(found, schema=FOUND, orient="row"), pl.DataFrame(effects, schema=EFFECTS, orient="row")
    return {name: table(frames) for name, table in ANSWER_KEY.items()}
