"""Whether the longer response wins: accuracy on either side of length, and correlations with it.

A response's length is the number of tokens of its own, behind what all candidates of its comparison share, by the
backbone's tokenizer. Formulas: docs/methods.md, section 11.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from rmtension.analysis.pairs import PairBlock
from rmtension.analysis.resampling import Array, divide
from rmtension.analysis.statistics import TASK, Bootstrap, Draws, concat
from rmtension.study.naming import OVERALL

LEAST = 5  # comparisons that either side of length must have
FEWEST = 6  # tasks: the order of fewer is too often perfect by chance, in every draw
COUNTED = ["n_longer", "n_shorter"]


def length_differences(block: PairBlock, lengths: pl.DataFrame) -> Array:
    """Tokens of the chosen minus those of the rejected response [U, P], NaN where unknown.

    lengths: model, benchmark, comparison_id, chosen_tokens, rejected_tokens (lists).
    """
    places = block.places.with_columns(block.ids.gather(block.places["comparison"]).alias("comparison_id"))
    known = lengths.filter(benchmark=block.benchmark)
    of_model = {}
    for model in block.units["model"].unique():
        both = places.join(known.filter(model=model), on="comparison_id", how="left", maintain_order="left")
        difference = pl.col("chosen_tokens").list.get(pl.col("i")) - pl.col("rejected_tokens").list.get(pl.col("j"))
        of_model[model] = both.select(difference.cast(pl.Float64).fill_null(np.nan)).to_series().to_numpy()
    return np.array([of_model[model] for model in block.units["model"]]).reshape(block.difference.shape)


def by_length(bootstrap: Bootstrap, blocks: Sequence[PairBlock], lengths: pl.DataFrame) -> dict[str, Draws]:
    """Percent right of the pairs whose chosen response is the longer one (longer), of those where it is the shorter one
    (shorter), the mean of the two (balanced), and COUNTED, the numbers of those pairs without draws, of every unit on
    every task.

    The three are undefined where either side has fewer than LEAST comparisons.
    """
    parts: dict[str, list[Draws]] = {name: [] for name in ("balanced", "longer", "shorter", *COUNTED)}
    for block in blocks:
        ahead, sides = length_differences(block, lengths), {}
        for name, side in (("longer", ahead > 0), ("shorter", ahead < 0)):
            pairs = side & block.scored
            count = block.sums(bootstrap, pairs)
            right = 100 * divide(block.sums(bootstrap, pairs & (block.difference > 0)), count)
            sides[name] = count, np.where(few(block, pairs)[:, None], np.nan, right)
        (n_longer, longer), (n_shorter, shorter) = sides["longer"], sides["shorter"]
        balanced = (longer + shorter) / 2
        unknown = np.isnan(balanced[:, :1])
        counts = [n_longer[:, :1], n_shorter[:, :1]]
        figures = [balanced, *(np.where(unknown, np.nan, side) for side in (longer, shorter)), *counts]
        keys = block.units.with_columns(pl.lit(getattr(block, name)).alias(name) for name in ("benchmark", *TASK))
        for name, figure in zip(parts, figures, strict=True):
            parts[name].append(Draws(keys, figure))
    return {name: concat(several) for name, several in parts.items()}


def few(block: PairBlock, pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[U] whether fewer than LEAST comparisons have one of these pairs [U, P]."""
    return np.asarray((block.by_comparison(pairs) > 0).sum(axis=1) < LEAST)


# --- rank correlations ---------------------------------------------------------------------------------------


def ranks(values: Array) -> Array:
    """Ranks along the last axis, those of equal values averaged and NaN left out, less their mean."""
    found = rankdata(values, axis=-1, nan_policy="omit")
    total, n = np.nansum(found, axis=-1, keepdims=True), (~np.isnan(found)).sum(axis=-1, keepdims=True)
    return np.asarray(found - total / np.maximum(n, 1))


def moments(x: Array, y: Array) -> list[Array]:
    """What a correlation of x and y [rows, n] is made of: 1, x, y, their squares and their product; 0 where unknown."""
    known = ~np.isnan(x) & ~np.isnan(y)
    return [np.where(known, term, 0) for term in (np.ones_like(x), x, y, x * x, y * y, x * y)]


def correlation(n: Array, x: Array, y: Array, xx: Array, yy: Array, xy: Array) -> Array:
    """Pearson's, of sums; undefined where one of the two does not vary."""
    spread = (n * xx - x * x) * (n * yy - y * y)
    return np.where(spread > 1e-9, divide(n * xy - x * y, np.sqrt(np.maximum(spread, 0))), np.nan)


def length_correlations(bootstrap: Bootstrap, blocks: Sequence[PairBlock], lengths: pl.DataFrame) -> Draws:
    """Spearman's rank correlation over pairs of reward difference and length difference, of every unit on every task.

    Ranks are those among all pairs, in draws too.
    """
    parts = []
    for block in blocks:
        length = length_differences(block, lengths)
        known = block.scored & ~np.isnan(length)
        x, y = (ranks(np.where(known, of_pairs, np.nan)) for of_pairs in (block.difference, length))
        sums = [block.sums(bootstrap, term) for term in moments(x, y)]
        keys = block.units.with_columns(pl.lit(getattr(block, name)).alias(name) for name in ("benchmark", *TASK))
        parts.append(Draws(keys, correlation(*sums)))
    return concat(parts)


def set_correlations(bootstrap: Bootstrap, texts: pl.DataFrame, benchmark: str) -> Draws:
    """Over the texts of a regime's own test split, Spearman's rank correlation of a set's mean activation and length.

    texts: model, regime, seed, ablation (the set), comparison_id, orientation, task, n_tokens, mean; null for a text
    without tokens of its own. Comparisons are resampled as the benchmark's, each with its texts.
    """
    by = ["model", "regime", "seed", "ablation"]
    keys, values = [], []
    for unit, part in texts.group_by(by, maintain_order=True):
        x, y = (part[name].cast(pl.Float64).fill_null(np.nan).to_numpy()[None] for name in ("n_tokens", "mean"))
        x = np.where(np.isnan(y), np.nan, x)
        terms = pl.DataFrame({str(i): term[0] for i, term in enumerate(moments(ranks(x), ranks(y)))})
        total = np.zeros((terms.width, 1 + bootstrap.draws))
        for (_, task), rows in part.select(TASK).with_row_index().group_by(TASK, maintain_order=True):
            here = part[rows["index"]].select("comparison_id").hstack(terms[rows["index"]])
            sums = here.group_by("comparison_id", maintain_order=True).agg(pl.all().sum()).drop("comparison_id")
            total += sums.to_numpy().T @ bootstrap.counts(len(sums), benchmark, str(task))
        keys.append(dict(zip(by, unit, strict=True)))
        values.append(correlation(*total))
    return Draws(pl.DataFrame(keys), np.stack(values))


def longer_shares(counts: Mapping[str, Draws]) -> pl.DataFrame:
    """model, orientation, task; share, percent of the pairs of different length of which the chosen response is the
    longer one, over all models too; null of a task without any.

    counts: COUNTED of every reward model on every task. Pairs, not comparisons: of several candidates hardly one
    comparison is won by the longer or the shorter ones alone, and equal lengths are no taste for the shorter.
    """
    every = {name: of.with_columns(pl.lit(OVERALL).alias("model")) for name, of in counts.items()}
    longer, shorter = (concat([counts[name], every[name]]).mean(["model", *TASK]) for name in COUNTED)
    both = longer.frame("longer").join(shorter.frame("shorter"), on=["model", *TASK], maintain_order="left")
    share = 100 * pl.col("longer") / (pl.col("longer") + pl.col("shorter"))
    return both.select("model", *TASK, share=share.fill_nan(None))


def lead_correlations(bootstrap: Bootstrap, leads: Draws, shares: pl.DataFrame) -> Draws:
    """Spearman's rank correlation over tasks of one regime's lead over another with the share that the longer response
    wins (see longer_shares), tasks resampled beside what `leads` resamples.

    leads: keyed by model, first, second, orientation, task; shares: model, orientation, task, share. Keyed by model,
    first, second, tasks ("all", or an orientation's alone) and n_tasks; undefined of fewer than FEWEST tasks.
    """
    groups = leads.keys.with_row_index("row").join(shares, on=["model", *TASK], maintain_order="left")
    keys, values = [], []
    for (model, first, second), part in groups.group_by("model", "first", "second", maintain_order=True):
        for tasks in ["all", *part["orientation"].unique(maintain_order=True)]:
            of = part if tasks == "all" else part.filter(orientation=tasks)
            lead, share = leads.values[of["row"].to_numpy()], of["share"].to_numpy()
            known = ~np.isnan(lead[:, 0]) & ~np.isnan(share)
            keys.append({"model": model, "first": first, "second": second, "tasks": tasks, "n_tasks": int(known.sum())})
            values.append(over_tasks(bootstrap, lead[known], share[known], tasks))
    return Draws(pl.DataFrame(keys), np.stack(values))


def over_tasks(bootstrap: Bootstrap, lead: Array, share: Array, tasks: str) -> Array:
    """[1 + draws] from leads [tasks, 1 + draws] and shares [tasks]: each draw of its own draw of tasks, ranked anew."""
    n = len(share)
    if n < FEWEST:
        return np.full(1 + bootstrap.draws, np.nan)
    generator = np.random.default_rng([bootstrap.seed, zlib.crc32(f"tasks {tasks}".encode())])
    drawn = np.concatenate([np.arange(n)[None], generator.integers(n, size=(bootstrap.draws, n))])
    x, y = ranks(np.take_along_axis(lead.T, drawn, axis=1)), ranks(share[drawn])
    return correlation(*(term.sum(axis=1) for term in moments(x, y)))
