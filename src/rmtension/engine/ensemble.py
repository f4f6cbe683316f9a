"""What two reward models say together: the mean of their rewards, each in units of its own spread."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rmtension.base.errors import UserError
from rmtension.base.files import fingerprint
from rmtension.base.sums import summable
from rmtension.engine.evaluation import SCHEMA

SIDES = ("chosen_scores", "rejected_scores")


def spread(scores: pl.DataFrame, name: str) -> float:
    """Root mean square of the margins of pairs: their standard deviation with each pair taken both ways round.

    So it is in the unit of differences, which are all that a reward model is trained on, and asks for no label. scores:
    of the pairs, in the form of evaluation.SCHEMA; name: of the reward model. UserError where there is none.
    """
    chosen, rejected = (pl.col(side).list.explode().cast(pl.Float64) for side in SIDES)
    scored = scores.drop_nulls("correct")
    if scored.is_empty():
        raise UserError(f"{name}: it can read none of the validation pairs, whose margins are its unit in an ensemble: "
                        "hold out others (validation), or leave the ensemble out")  # fmt: skip
    root = scored.select(summable((chosen - rejected).pow(2)).mean().sqrt()).item()
    if not root:
        raise UserError(f"{name}: rewards every validation pair's two texts alike: it has no say in an ensemble")
    return float(root)


def together(scores: Sequence[pl.DataFrame], spreads: Sequence[float]) -> pl.DataFrame:
    """One benchmark's scores by two reward models made one file; null where either has none.

    scores: of the same comparisons in the same order, unablated, in the form of evaluation.SCHEMA.
    """
    first, second = (
        frame.select(pl.col(side).cast(pl.List(pl.Float64)) / (len(spreads) * by) for side in SIDES)
        for frame, by in zip(scores, spreads, strict=True)
    )
    sums = [(first[side] + second[side]).cast(SCHEMA[side]) for side in SIDES]
    stand_for = [*(frame["fingerprint"][0] for frame in scores), *map(str, spreads)]
    same = pl.col("precision") == scores[1]["precision"]
    lesser = pl.when(same).then("precision").when(~same).then(pl.lit("bfloat16"))  # null where either is, as scores
    whole = scores[0].with_columns(*sums, precision=lesser, fingerprint=pl.lit(fingerprint(*stand_for)))
    return whole.with_columns(correct=pl.col(SIDES[0]).list.min() > pl.col(SIDES[1]).list.max())
