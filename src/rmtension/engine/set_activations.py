"""How active sets of neurons are in each text: the mean over its own tokens and the neurons of a set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rmtension.engine.ablation import Mask, by_layer
from rmtension.engine.activations import RESPONSES, observed_neurons
from rmtension.engine.architectures import longest_text
from rmtension.engine.packing import Batch, Packed
from rmtension.engine.passes import candidate_values
from rmtension.engine.reading import load_reader, pack_table
from rmtension.engine.reward_model import hidden_states, load_reward_model, not_finite

SCHEMA = {
    **dict.fromkeys(["comparison_id", "task", "orientation", "response", "ablation"], pl.String()),
    "n_tokens": pl.Int32(),
    "mean": pl.Float64(),
}
Members = list[Tensor]  # of a set, by layer: indices of its neurons


def own_sums(model: Any, sets: Sequence[Members], is_signed: bool, batch: Batch) -> Tensor:
    """Sums of (absolute) activations over each candidate's own tokens and each set's neurons: float64 [sets, C]."""
    by_token = torch.zeros(len(sets), len(batch.tokens), dtype=torch.float64, device=batch.tokens.device)

    def add(layer: int, activations: Tensor) -> None:
        for total, members in zip(by_token, sets, strict=True):
            values = activations[0].index_select(-1, members[layer])
            total += (values if is_signed else values.abs()).sum(-1, dtype=torch.float64)

    with observed_neurons(model, add):
        hidden_states(model, batch)
    candidates, prefixes = len(batch.end), len(batch.index)
    by_segment = by_token.new_zeros(len(sets), candidates + prefixes).index_add_(1, batch.segments, by_token)
    return by_segment[:, :candidates]


def own_tokens(packed: Packed) -> list[int]:
    """How many tokens each candidate has behind what all share."""
    counts: list[int] = np.bincount(packed.segments, minlength=1 + len(packed.ends))[1:].tolist()
    return counts


def set_activations(
    folder: Path,
    pairs: pl.DataFrame,
    selected: pl.DataFrame,
    sets: Sequence[str],
    is_signed: bool,
    budget: int,
    device: torch.device,
) -> pl.DataFrame:
    """SCHEMA: every text of every pair under every one of `sets`.

    pairs: comparisons of one chosen and one rejected text. selected: ablation, unit, layer, neuron. is_signed: the mean
    of the activation, else of its absolute value. Both figures are null where the reward model in `folder` cannot read
    the pair, the mean where a text has no token of its own. UserError where an activation is not finite.
    """
    model = load_reward_model(folder, device)
    kept, packed = pack_table(load_reader(folder), pairs, longest_text(model.config))
    masks = [Mask.of(selected.filter(ablation=name), model.config).neurons for name in sets]
    find = partial(own_sums, model, [by_layer(mask, device) for mask in masks], is_signed)
    sums = candidate_values("activations of sets", find, packed, len(sets), np.float64, budget, device)
    if not np.isfinite(sums).all():
        raise not_finite(folder, "its activations")
    every = pairs.select("comparison_id", "task", "orientation").with_row_index("row")
    every = every.join(pl.DataFrame({"response": RESPONSES}), how="cross", maintain_order="left_right")
    read = every.join(pl.DataFrame({"row": kept}, {"row": pl.UInt32()}), on="row", maintain_order="left")
    n_tokens = pl.Series([n for one in packed for n in own_tokens(one)], dtype=pl.Int32)
    frames = []
    for name, mask, of_set in zip(sets, masks, sums, strict=True):
        mean = (pl.Series(of_set) / n_tokens / int(mask.sum())).fill_nan(None)
        of_texts = read.select("row", "response", n_tokens=n_tokens, mean=mean)
        frame = every.join(of_texts, on=["row", "response"], how="left", maintain_order="left")
        frames.append(frame.with_columns(ablation=pl.lit(name)).select(*SCHEMA))
    return pl.concat(frames)
