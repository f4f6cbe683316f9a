"""Names that stand in every table: ablations, and the row that is the mean over models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

UNORIENTED = "unoriented"  # orientation of a task that is neither regime's
OVERALL = "all models"  # value of the column `model` in rows that are the plain mean over the study's models
AVERAGE = "average"  # value of the column `task` in rows that average an orientation's tasks
BOTH = "both orientations"  # value of the column `orientation` in rows that are the mean of a mixture's two
WORDS = "words:"  # stands before the regime whose train pairs a rule without a model goes by
OWN_TASKS, OWN_TEST = "own tasks", "own test"  # of a donor: its orientation's tasks, and its own test split
THIRDS = ["early", "middle", "late"]  # of a model's layers
# Tensors in published files that are no parameters: causal masks and rotary frequencies.
BUFFER = re.compile(r"\.(att(n|ention)\.(masked_)?bias|rotary_emb\.inv_freq)$")

MEAN = "@mean"  # at the end of a set's name: its neurons are replaced by their means, not by zeros

Control = Literal["whole", "size-matched", "matched-random", "random"]


class TensionSet(NamedTuple):
    """A set ablated in a mixed reward model, and how it is made (docs/methods.md, section 5)."""

    name: str
    set: str  # shared, {regime}-only or shared-authors; random where it is made of none of them
    control: Control
    draw: int | None  # of a control; whole sets are not drawn


def ranks_heads(scoring: str) -> bool:
    """Whether a scoring ranks attention heads; the others rank neurons."""
    return scoring.startswith("head-")


def sized(size: float | str) -> tuple[float | None, int | None]:
    """A size of a study file (section.Size) as the percent or the count that it is, the other None."""
    return (None, int(size.removesuffix("n"))) if isinstance(size, str) else (float(size), None)


def set_size(size: float | str, n_units: int) -> int:
    """Units in the top `size`, a percent or a count, of `n_units`; at most all."""
    percent, count = sized(size)
    return min(count or 0, n_units) if percent is None else round(percent / 100 * n_units)


def misfit(model: str, n_neurons: int, percent: float, swept: Sequence[float | str]) -> str:
    """What is wrong with ablation.percent, or a size of ablation.sweep, in a model of so many neurons, or ""."""
    for key, size in [("ablation.percent", percent), *(("ablation.sweep", size) for size in swept)]:
        share, count = sized(size)
        if count is not None and count > n_neurons:
            return f"{key}: {size}: models.{model} has {n_neurons} neurons: give a smaller count"
        if set_size(size, n_neurons) == 0:
            return f"{key}: {share:g} % of the {n_neurons} neurons of models.{model} are none: give a greater percent"
    return ""


def ablation_name(scoring: str, size: float | str) -> str:
    """Name of the set of the top `size` by `scoring`; the whole network is one set whatever the scoring."""
    percent, count = sized(size)
    if percent == 100:
        return "all-heads" if ranks_heads(scoring) else "all"
    return f"{scoring}-n{count}" if percent is None else f"{scoring}-p{percent:g}"


def thirds_names(draws: int) -> dict[str, str]:
    """Every set of one third of the layers (docs/methods.md, section 5) -> that third."""
    return {f"{third}-matched-{draw}": third for draw in range(draws) for third in THIRDS}


def exclusive_names(mixes: Sequence[str]) -> list[str]:
    """The three disjoint sets of a mixed reward model's parts: in both, in the first only, in the second only."""
    return ["shared", *(f"{regime}-only" for regime in mixes)] if mixes else []


def tension_names(mixes: Sequence[str]) -> list[str]:
    """Whole sets ablated in a mixed reward model: those three, and the authors' version of `shared`."""
    return [*exclusive_names(mixes), "shared-authors"] if mixes else []


def tension_sets_index(mixes: Sequence[str], draws: int) -> list[TensionSet]:
    """Every set ablated in a mixed reward model besides its own: the whole sets, then `draws` times the controls."""
    index = [TensionSet(name, name, "whole", None) for name in tension_names(mixes)]
    for draw in range(draws if mixes else 0):
        for name in exclusive_names(mixes):
            index.append(TensionSet(f"{name}-sized-{draw}", name, "size-matched", draw))
            index.append(TensionSet(f"{name}-matched-{draw}", name, "matched-random", draw))
        index.append(TensionSet(f"random-sized-{draw}", "random", "random", draw))
    return index
