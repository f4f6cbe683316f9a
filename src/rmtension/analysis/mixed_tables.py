"""Tables of the mixed reward model beside its parts: what it keeps of their decisions, and what it shares with each."""

from __future__ import annotations

from typing import Any

import polars as pl

from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import mixed_sets, mixtures
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Block, concat


def paired(block: Block, mixed: str, single: str, ablation: Any = "none") -> pl.DataFrame:
    """Units of a mixed regime under `ablation` (all of them: None), with the row of the unablated part of the same
    model and seed: row, part."""
    parts = block.rows(regime=single, ablation="none").select("model", "seed", part="row")
    chosen = {} if ablation is None else {"ablation": ablation}
    return block.rows(regime=mixed, **chosen).join(parts, on=["model", "seed"], maintain_order="left")


def retention_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), ablation (none, or a set zeroed in the mixed reward model), orientation, task;
    retention |M and (A or B)| / |A or B|, of the parts' unablated A and B; what M could not score is not counted."""
    whole = mixed_sets(results.study).filter(control="whole")["ablation"].unique(maintain_order=True)
    shown = [block.of_units(pl.col("ablation").is_in(["none", *whole])) for block in results.shared_blocks]
    parts = []
    for regime in dict(mixtures(results.study, results.study.regimes)):
        for block in shown:
            first, second = (paired(block, regime, single, None) for single in results.study.regimes[regime].mixes)
            either = block.correct[first["part"]] | block.correct[second["part"]]
            either &= block.scored[first["row"]]
            kept = block.correct[first["row"]] & either
            parts.append(results.bootstrap.ratio(block, first.drop("row", "part"), kept, either))
    if not parts:
        return empty_table(["retention"], ["model", "regime", "ablation", *TASK])
    averaged = concat(parts).with_averages([*REWARD_MODEL, "ablation"])
    return results.table(averaged, ["model", "regime", "ablation", *TASK], "retention").drop("p")


def agreement_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), single (one of its parts), orientation, task; overlap |M and S| / |M or S| of what
    the two get right, of the comparisons that both could score."""
    by = ["model", "regime", "single", *TASK]
    parts = []
    for regime, single in mixtures(results.study, results.study.regimes):
        for block in results.shared_blocks:
            pairs = paired(block, regime, single)
            one, other = pairs["row"], pairs["part"]
            scored = block.scored[one] & block.scored[other]
            either, both = block.correct[one] | block.correct[other], block.correct[one] & block.correct[other]
            keys = pairs.drop("row", "part").with_columns(single=pl.lit(single))
            parts.append(results.bootstrap.ratio(block, keys, both & scored, either & scored))
    if not parts:
        return empty_table(["overlap"], by)
    return results.table(concat(parts).with_averages([*REWARD_MODEL, "single"]), by, "overlap").drop("p")
