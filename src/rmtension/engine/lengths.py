"""How many tokens the candidates of a comparison share at their start, and how many each has of its own."""

from __future__ import annotations

from typing import Any

import polars as pl

from rmtension.engine.packing import common_prefix_length
from rmtension.engine.reward_model import tokenised_sides

AT_ONCE = 1000  # comparisons: a tokenizer holds far more of a text than its ids
COUNTS = {"prefix_tokens": pl.Int32(), "chosen_tokens": pl.List(pl.Int32()), "rejected_tokens": pl.List(pl.Int32())}


def lengths(tokenizer: Any, comparisons: pl.DataFrame) -> pl.DataFrame:
    """What comparisons have beside their texts, and COUNTS: tokens that all candidates begin with, and each one's own.

    A candidate that is itself what they share has 0. No model is asked, so none is too long.
    """
    return pl.concat(counted(tokenizer, part) for part in comparisons.iter_slices(AT_ONCE))


def counted(tokenizer: Any, comparisons: pl.DataFrame) -> pl.DataFrame:
    """`lengths` of comparisons that are tokenised at once."""
    counts = []
    for chosen, rejected in tokenised_sides(
        tokenizer, comparisons["chosen"].to_list(), comparisons["rejected"].to_list()
    ):
        prefix = common_prefix_length([*chosen, *rejected])
        counts.append((prefix, *([len(tokens) - prefix for tokens in side] for side in (chosen, rejected))))
    return comparisons.drop("chosen", "rejected").hstack(pl.DataFrame(counts, COUNTS, orient="row"))
