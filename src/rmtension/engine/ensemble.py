"""What two reward models say together: the mean of their rewards, each in units of its own spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, fingerprint
from rmtension.base.sums import summable
from rmtension.data.comparisons import read_comparisons
from rmtension.engine.evaluation import SCHEMA, evaluate, load, scoring_fingerprint
from rmtension.neurons.ranking import NO_SETS

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


def score_ensemble(
    parts: Mapping[str, Path],
    files: Sequence[Path],
    validation: Path,
    code: Sequence[Path],
    budget: int,
    threads: int,
    precision: str,
    device: torch.device,
) -> tuple[list[pl.DataFrame], dict[str, Any]]:
    """Scores files of an ensemble of two reward models, one for each file of comparisons, and what made them.

    parts: their folders by regime; validation: of the files the one whose pairs' margins are the unit of each part's
    rewards; code: what the scores depend on. UserError where a part has no margins there.
    """

    def unablated(folder: Path) -> list[pl.DataFrame]:
        """By one part, which is loaded once."""
        loaded, found = load(folder, device), []
        for file in files:
            inputs = scoring_fingerprint(folder, file, code, budget, threads, precision, device)
            found.append(evaluate(folder, read_comparisons(file), NO_SETS, ["none"], None, inputs, budget, device,
                                  is_judged=file != validation, precision=precision, loaded=loaded,
                                  place=str(file)))  # fmt: skip
        return found

    scores = [unablated(folder) for folder in parts.values()]
    row = files.index(validation)
    spreads = [spread(of_part[row], str(folder)) for of_part, folder in zip(scores, parts.values(), strict=True)]
    origins = {regime: fingerprint(folder / CHECKSUMS) for regime, folder in parts.items()}
    made = {"method": "ensemble", "parts": [*parts], "spreads": spreads, "origins": origins}
    return [together(of_file, spreads) for of_file in zip(*scores, strict=True)], made


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
