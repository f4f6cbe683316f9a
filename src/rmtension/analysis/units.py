"""What the figures of tables are counted in, and what they can be at least and at most."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import polars as pl


class Unit(NamedTuple):
    """What a figure is counted in, and what it can be at least and at most."""

    name: str
    least: float = -inf
    greatest: float = inf


PERCENT, POINTS, FRACTION = Unit("%", 0, 100), Unit("points", -100, 100), Unit("fraction", 0, 1)
RATIO, NEURONS, ACTIVATION = Unit("ratio", 0), Unit("neurons", 0), Unit("activation", 0)
CORRELATION, CHANGE, NATS = Unit("correlation", -1, 1), Unit("fraction", -1, 1), Unit("nats", 0)
REWARD, REWARD_SIZE = Unit("reward"), Unit("reward", 0)
# Every figure of a table, by the name that its columns begin with.
UNITS = (
    dict.fromkeys(["accuracy", "baseline", "ablated", "share", "value"], PERCENT)
    | dict.fromkeys(["delta", "difference", "zeroed", "averaged"], POINTS)
    | dict.fromkeys(["retention", "overlap", "jaccard", "retained", "chance"], FRACTION)
    | dict.fromkeys(["ratio", "margin_ratio"], RATIO)
    | dict.fromkeys(["closeness", "mixed", "single", "left", "right"], REWARD)
    | dict.fromkeys(["mixed_spread", "single_spread", "before", "after"], REWARD_SIZE)
    | dict.fromkeys(["n_neurons", "intersection", "union"], NEURONS)
    | dict.fromkeys(["rmsd", "level"], ACTIVATION)
    | dict.fromkeys(["balanced", "longer", "shorter"], PERCENT)
    | {"correlation": CORRELATION}
    | dict.fromkeys(["target", "repaired"], PERCENT)
    | dict.fromkeys(["gap", "gain"], POINTS)
    | dict.fromkeys(["recovery", "recovery_difference"], Unit("of the gap"))
    | {"closed": Unit("fraction")}  # of a gap, and beyond it
    | dict.fromkeys(["pairs_seen", "pairs_needed"], Unit("pairs", 0))
    | {"scoring_cost": Unit("reward models", 0)}
    | dict.fromkeys(["cosine", "cosine_difference"], Unit("cosine"))  # without noise it can leave -1 to 1
    | {"opposed": FRACTION, "opposed_difference": CHANGE}
    | dict.fromkeys(["ece", "brier", "confidence"], FRACTION)
    | dict.fromkeys(["log_loss", "rescaled_log_loss"], NATS)
    | {"temperature": RATIO}
    | dict.fromkeys(["squared_ce", "ece_change", "squared_ce_change", "brier_change"], CHANGE)
    | dict.fromkeys(["log_loss_change", "rescaled_log_loss_change"], Unit("nats"))
)


def held(summary: pl.DataFrame, name: str) -> pl.DataFrame:
    """A summary with the limits of its interval within what the figure can be: corrected for the small number of seeds,
    they can reach beyond. An estimate that does so itself (RewardBench 2's Ties goes to 101) stays between them."""
    unit, mean = UNITS[name], pl.col(f"{name}_mean")
    least, greatest = pl.min_horizontal(pl.lit(unit.least), mean), pl.max_horizontal(pl.lit(unit.greatest), mean)
    return summary.with_columns(pl.col(f"{name}_low", f"{name}_high").clip(least, greatest))
