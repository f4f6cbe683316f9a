"""What is odd about pairs, and what training and test data share: counted by reason, so that nothing goes unseen."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from rmtension.data.dialogues import BREAK, MARK, REPLY

# n of so many pairs or comparisons; treatment: left out or kept.
HYGIENE = {
    "source": pl.String(),
    "split": pl.String(),
    "reason": pl.String(),
    "treatment": pl.String(),
    "n": pl.Int64(),
    "of": pl.Int64(),
}


def either(is_odd: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    return is_odd(pl.col("chosen")) | is_odd(pl.col("rejected"))


def dialogue(text: pl.Expr) -> pl.Expr:
    """All but the last assistant turn."""
    return text.str.extract(f"(?s)^(.*){REPLY}")


def opening(text: pl.Expr) -> pl.Expr:
    """The first human turn without the words around it, whatever the template; null where nothing follows it."""
    return text.str.extract(rf"(?s)^\s*(?:Assistant:.*?{BREAK}Human:|Human:)?\s*(.*?)\s*{REPLY}")


def replies_nothing(text: pl.Expr) -> pl.Expr:
    return text.str.contains(rf"{REPLY}\s*$")


def has_empty_turn(text: pl.Expr) -> pl.Expr:
    """Whether a turn other than the last has no words."""
    return text.str.contains(rf"{MARK}\s*{BREAK}(?:Human|Assistant):")


def begins_with_mark(text: pl.Expr) -> pl.Expr:
    """Whether a mark stands right behind that of a turn, as in `Assistant: Human: No`."""
    return text.str.contains(rf"{MARK}[^\S\n]*\n?[^\S\n]*(?:Human|Assistant):")


def ends_with_human(text: pl.Expr) -> pl.Expr:
    return text.str.extract(rf"(?s)^.*{BREAK}(Human|Assistant):") == "Human"


# A pair is left out for the first of these that holds: it teaches nothing, or is no dialogue at all.
LEFT_OUT = {
    "a side without text": either(lambda text: text.str.strip_chars() == ""),
    "a side without an assistant turn": either(lambda text: ~text.str.contains(REPLY)),
    "both sides the same": pl.col("chosen") == pl.col("rejected"),
}
# What upstream is known to hold: labelled by people all the same, and scored like any other pair.
ODD = {
    "last reply empty": replies_nothing,
    "a turn without words": has_empty_turn,
    "a turn begins with a mark": begins_with_mark,
    "the last turn is the human's": ends_with_human,
}
DIFFER = "sides differ before the last reply"
KEPT = {
    **{reason: either(is_odd) for reason, is_odd in ODD.items()},
    DIFFER: dialogue(pl.col("chosen")) != dialogue(pl.col("rejected")),
}


def counts(source: str, split: str, found: dict[str, int], of: int | None, treatment: str = "kept") -> pl.DataFrame:
    """HYGIENE: a row for each reason in `found`."""
    rows = [(source, split, reason, treatment, n, of) for reason, n in found.items()]
    return pl.DataFrame(rows, HYGIENE, orient="row")


def sift(pairs: pl.DataFrame, source: str, split: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs that are of use, and HYGIENE of all: left out under one reason each, kept under any."""
    first = pl.coalesce(pl.when(odd).then(pl.lit(reason)) for reason, odd in LEFT_OUT.items())
    reasons = pairs.select(first).to_series()
    kept = pairs.filter(reasons.is_null())
    left_out = {reason: int((reasons == reason).sum()) for reason in LEFT_OUT}
    odd = kept.select(odd.sum().alias(reason) for reason, odd in KEPT.items()).row(0, named=True)
    both = [counts(source, split, left_out, len(pairs), "left out"), counts(source, split, odd, len(pairs))]
    return kept, pl.concat(both)


def shared(train: pl.DataFrame, test: pl.DataFrame) -> pl.DataFrame:
    """HYGIENE: pairs of each source of `test` with a whole text, or an opening question, that `train` has too."""
    texts = pl.concat([train["chosen"], train["rejected"].alias("chosen")]).unique().implode()
    openings = train.select(opening(pl.col("chosen")).unique()).to_series().implode()
    overlaps = {
        "a text occurs in training": either(lambda text: text.is_in(texts)),
        "the opening question occurs in training": opening(pl.col("chosen")).is_in(openings),
    }
    parts = []
    for (source,), pairs in test.group_by("source", maintain_order=True):
        found = pairs.select(odd.sum().alias(reason) for reason, odd in overlaps.items()).row(0, named=True)
        parts.append(counts(str(source), "test", found, len(pairs)))
    return pl.concat(parts)


def benchmark_counts(benchmark: str, comparisons: pl.DataFrame) -> pl.DataFrame:
    """HYGIENE of a benchmark's comparisons: none is left out, as published figures count them all."""
    texts, one = pl.concat_list("chosen", "rejected"), pl.element()
    odd = {
        "a text on both sides": pl.col("chosen").list.set_intersection("rejected").list.len() > 0,
        **{reason: texts.list.eval(is_odd(one)).list.any() for reason, is_odd in ODD.items()},
        DIFFER: texts.list.eval(dialogue(one)).list.n_unique() > 1,
    }
    found = comparisons.select(is_odd.sum().alias(reason) for reason, is_odd in odd.items())
    return counts(benchmark, "", found.row(0, named=True), len(comparisons))
