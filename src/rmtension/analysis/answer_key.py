"""Tables of the answer key: what is said of reward models whose circuits are known (docs/methods.md, section 16)."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from rmtension.base.sums import summable

Frames = tuple[pl.DataFrame, pl.DataFrame]  # engine.answer_key's FOUND and EFFECTS


def over_repeats(figures: pl.DataFrame, by: list[str], name: str) -> pl.DataFrame:
    """Mean, least (low) and greatest (high) of a column over the repeats."""
    value = pl.col(name)
    parts = {"mean": summable(value).mean(), "low": value.min(), "high": value.max()}
    return figures.group_by(by, maintain_order=True).agg(
        *(part.alias(f"{name}_{suffix}") for suffix, part in parts.items()), n_repeats=pl.len()
    )


def answer_key_table(key: Frames) -> pl.DataFrame:
    """reward_model (of an objective, or of both), scoring, kind (of planted neuron: what it adds to the reward for, or
    loud, which adds nothing); n_planted of them, and share, the percent of those that are among the best by the
    scoring, of which as many are taken as there are neurons that matter to that reward model. Not of the study's own
    reward models but of made ones, n_repeats times: mean, least (low) and greatest (high)."""
    by = ["reward_model", "scoring", "kind", "n_planted"]
    share = 100 * pl.col("n_found") / pl.col("n_planted")
    return over_repeats(key[0].with_columns(share=share), by, "share")


def answer_key_effects_table(key: Frames) -> pl.DataFrame:
    """reward_model, pairs (the objective that they are of), kind (of planted neurons); the accuracy on those pairs
    (baseline), and by how many points it changes with these neurons at zero (zeroed) or at their means (averaged); of
    the reward model of both, the share of its gap to the pairs' own one that is closed with that one's values at
    these neurons (recovery); and over both objectives' pairs the cosine of their gradients at these neurons, and the
    share of the gradients' square at weights that they would move in opposite ways (opposed). Means, least (low) and
    greatest (high) of n_repeats."""
    by, effects = ["reward_model", "pairs", "kind"], key[1]
    baseline = effects.filter(effect="baseline").select("reward_model", "pairs", "seed", baseline="value")
    found = effects.filter(pl.col("effect") != "baseline")
    table = found.select(by).unique(maintain_order=True)
    of_kinds = found.filter(effect="zeroed").join(baseline, on=["reward_model", "pairs", "seed"], maintain_order="left")
    figures = {"baseline": of_kinds} | {
        name: found.filter(effect=name).rename({"value": name})
        for name in ("zeroed", "averaged", "recovery", "cosine", "opposed")
    }
    for name, frame in figures.items():
        part = over_repeats(frame, by, name).drop("n_repeats")
        table = table.join(part, on=by, how="left", maintain_order="left")
    repeats = effects["seed"].n_unique()
    return table.with_columns(n_repeats=pl.lit(repeats, pl.UInt32))


ANSWER_KEY: dict[str, Callable[[Frames], pl.DataFrame]] = {
    "answer_key": answer_key_table,
    "answer_key_effects": answer_key_effects_table,
}
