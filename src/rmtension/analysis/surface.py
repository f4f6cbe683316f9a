"""Rules that ask no model: the longer or the shorter response wins, or the one with words that training prefers."""

from __future__ import annotations

import polars as pl

from rmtension.analysis.statistics import TASK, Bootstrap, blocks, limits
from rmtension.study.naming import OVERALL, WORDS

LONGER, SHORTER = "longer", "shorter"  # names of rules


def ruled(lengths: pl.DataFrame, words: pl.DataFrame) -> pl.DataFrame:
    """The rules' scores in the form of reward models': model (whose tokenizer counts; none for words), regime (the
    rule), seed, ablation, benchmark, comparison_id, orientation, task, chosen (the lowest), rejected (the highest).

    lengths: model, benchmark, comparison_id, orientation, task, chosen_tokens, rejected_tokens; words:
    regime, benchmark, comparison_id, orientation, task, chosen_scores, rejected_scores. The rejected one's is taken off
    both sides: blocks hold single precision, in which two scores can be one.
    """
    chosen, rejected = pl.col("chosen_tokens").list, pl.col("rejected_tokens").list
    sides = {LONGER: (chosen.min(), rejected.max()), SHORTER: (-chosen.max(), -rejected.min())}
    frames = [
        lengths.with_columns(chosen=low, rejected=high, regime=pl.lit(rule)) for rule, (low, high) in sides.items()
    ]
    low, high = pl.col("chosen_scores").list.min(), pl.col("rejected_scores").list.max()
    named = {"regime": WORDS + pl.col("regime"), "model": pl.lit(OVERALL)}
    frames.append(words.with_columns(chosen=low, rejected=high, **named))
    columns = ["model", "regime", "benchmark", "comparison_id", *TASK]
    ahead = (pl.col("chosen") - pl.col("rejected")).cast(pl.Float64)
    made = pl.concat(f.select(*columns, chosen=ahead, rejected=0 * ahead) for f in frames)
    return made.with_columns(seed=0, ablation=pl.lit("none"))


def surface(bootstrap: Bootstrap, scores: pl.DataFrame) -> pl.DataFrame:
    """benchmark, orientation, task, rule; n_comparisons, accuracy_mean, accuracy_low, accuracy_high.

    scores: see ruled. The mean over the models' tokenizers; the interval is over comparisons.
    """
    place, by = ["benchmark", *TASK], ["benchmark", *TASK, "rule"]
    accuracy = bootstrap.accuracy(blocks([scores])).with_columns(pl.col("regime").alias("rule")).mean(by)
    counts = scores.group_by(place, maintain_order=True).agg(n_comparisons=pl.col("comparison_id").n_unique())
    frame = accuracy.frame("accuracy_mean").hstack(limits(accuracy, bootstrap.confidence).select("low", "high"))
    frame = frame.join(counts, on=place, how="left", maintain_order="left")
    return frame.select(*by, "n_comparisons", "accuracy_mean", accuracy_low="low", accuracy_high="high")
