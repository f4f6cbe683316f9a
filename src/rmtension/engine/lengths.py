"""How many tokens the candidates of a comparison share at their start, and how many each has of its own."""

from __future__ import annotations

from itertools import chain

import polars as pl

from rmtension.engine.packing import common_prefix_length
from rmtension.engine.reading import Reader
from rmtension.engine.reward_model import tokenised_sides

AT_ONCE = 1000  # comparisons: a tokenizer holds far more of a text than its ids
COUNTS = {"prefix_tokens": pl.Int32(), "chosen_tokens": pl.List(pl.Int32()), "rejected_tokens": pl.List(pl.Int32())}


def lengths(reader: Reader, comparisons: pl.DataFrame) -> pl.DataFrame:
    """What comparisons have beside their texts, and COUNTS: tokens that all candidates begin with, and each one's own.

    A candidate that is itself what they share has 0. No model is asked, so none is too long. All are null where a text
    is refused by the chat template that it is to be read by.
    """
    return pl.concat(counted(reader, part) for part in comparisons.iter_slices(AT_ONCE))


def counted(reader: Reader, comparisons: pl.DataFrame) -> pl.DataFrame:
    """`lengths` of comparisons that are tokenised at once."""
    texts = comparisons["chosen"].to_list(), comparisons["rejected"].to_list()
    counts: list[tuple[int | None, list[int] | None, list[int] | None]] = []
    for sides, of_texts in zip(tokenised_sides(reader, *texts), zip(*texts, strict=True), strict=True):
        if any(text in reader.refused for text in chain(*of_texts)):
            counts.append((None, None, None))
            continue
        prefix = common_prefix_length([*chain(*sides)])
        chosen, rejected = ([len(tokens) - prefix for tokens in side] for side in sides)
        counts.append((prefix, chosen, rejected))
    return comparisons.drop("chosen", "rejected").hstack(pl.DataFrame(counts, COUNTS, orient="row"))
