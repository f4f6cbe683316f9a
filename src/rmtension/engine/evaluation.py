"""Scores of every comparison of one benchmark under every ablation, with the model loaded once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import transformers
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, fingerprint, reading
from rmtension.engine.ablation import Mask, ablated
from rmtension.engine.architectures import longest_text
from rmtension.engine.decisions import precise_rewards
from rmtension.engine.packing import Batch, Packed
from rmtension.engine.passes import Find, Halfway, candidate_values
from rmtension.engine.reading import Reader, load_reader, pack_table, unread
from rmtension.engine.reward_model import load_config, load_reward_model, not_finite, score
from rmtension.study.naming import MEAN

logger = logging.getLogger(__name__)

Loaded = tuple[Any, Reader]
SCHEMA: dict[str, pl.DataType] = {
    "ablation": pl.String(),
    "comparison_id": pl.String(),
    "task": pl.String(),
    "orientation": pl.String(),
    "chosen_scores": pl.List(pl.Float32()),
    "rejected_scores": pl.List(pl.Float32()),
    "correct": pl.Boolean(),
    "precision": pl.String(),
    "fingerprint": pl.String(),
}
NAMELESS = {name: kind for name, kind in SCHEMA.items() if name != "ablation"}
SCORED = {
    "row": pl.Int64(),
    **{name: SCHEMA[name] for name in ("fingerprint", "chosen_scores", "rejected_scores", "correct", "precision")},
}


def scoring_fingerprint(
    folder: Path,
    comparisons: Path,
    code: Sequence[Path],
    budget: int,
    threads: int,
    precision: str,
    device: torch.device,
) -> str:
    """All that one reward model's scores on one benchmark depend on, but for what is ablated."""
    versions = f"torch {torch.__version__} transformers {transformers.__version__}"
    how = f"{budget} {threads} {precision} {device.type} {versions}"
    return fingerprint(folder / CHECKSUMS, comparisons, *code, how)


def ablated_scores(model: Any, masks: Sequence[Mask], batch: Batch) -> Tensor:
    """Rewards [masks, C], float32."""
    rewards = torch.empty(len(masks), len(batch.end), device=batch.end.device)
    for row, mask in enumerate(masks):
        with ablated(model, mask):
            rewards[row] = score(model, batch)
    return rewards


def candidate_scores(
    model: Any, comparisons: Sequence[Packed], masks: Sequence[Mask], budget: int, device: torch.device
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rewards [masks, candidates], as candidate_values has them."""
    scores = partial(ablated_scores, model, masks)
    return candidate_values("evaluation", scores, comparisons, len(masks), np.float32, budget, device)


def refuse_what_is_no_number(folder: Path, rewards: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """UserError where a reward is not finite: it would pass for a wrong answer."""
    if bad := int((~np.isfinite(rewards)).sum()):
        raise not_finite(folder, f"{bad} rewards")


def score_lists(
    rewards: np.ndarray[Any, np.dtype[np.float32]],
    comparisons: Sequence[Packed],
    kept: Sequence[int],
    fingerprints: Sequence[str],
) -> pl.DataFrame:
    """One row for each of `rewards` and scored comparison: fingerprint, row, chosen_scores, rejected_scores, correct.

    A comparison is correct when its lowest chosen score is above its highest rejected one; a tie is wrong
    (docs/methods.md, section 6).
    """
    sizes = [len(packed.ends) for packed in comparisons]
    candidates = pl.DataFrame(
        {
            "row": np.repeat(np.asarray(kept, dtype=np.int64), sizes),
            "chosen": np.concatenate([packed.chosen for packed in comparisons]),
        }
    )
    frames = [
        candidates.with_columns(fingerprint=pl.lit(f), score=pl.Series(r))
        for f, r in zip(fingerprints, rewards, strict=True)
    ]
    return (
        pl.concat(frames)
        .group_by("fingerprint", "row", maintain_order=True)
        .agg(
            chosen_scores=pl.col("score").filter(pl.col("chosen")),
            rejected_scores=pl.col("score").filter(~pl.col("chosen")),
        )
        .with_columns(correct=pl.col("chosen_scores").list.min() > pl.col("rejected_scores").list.max())
    )


def reusable(previous: pl.DataFrame | None, fingerprints: Iterable[str]) -> pl.DataFrame:
    """Rows of an earlier scores file that still hold, under whichever name they stood; each fingerprint's once."""
    if previous is None or previous.schema != SCHEMA:
        return pl.DataFrame(schema=NAMELESS)
    once = previous.unique(["fingerprint", "comparison_id"], keep="first", maintain_order=True)
    return once.filter(pl.col("fingerprint").is_in(list(fingerprints))).drop("ablation")


def read_previous(file: Path) -> pl.DataFrame | None:
    """An earlier scores file, if there is one that can be read."""
    try:
        with reading(file):
            return pl.read_parquet(file, glob=False) if file.exists() else None
    except UserError as error:
        logger.warning("%s: all is computed anew", error)
        return None


def with_comparisons(scored: pl.DataFrame, comparisons: pl.DataFrame, fingerprints: Iterable[str]) -> pl.DataFrame:
    """Every comparison for every fingerprint; null scores where a comparison could not be scored."""
    index = comparisons.select("comparison_id", "task", "orientation").with_row_index("row").cast({"row": pl.Int64})
    every = pl.DataFrame({"fingerprint": list(fingerprints)}).join(index, how="cross", maintain_order="left_right")
    frame = every.join(scored, on=["fingerprint", "row"], how="left", maintain_order="left")
    return frame.select(pl.col(name).cast(kind) for name, kind in NAMELESS.items() if name in frame.columns)


def load(folder: Path, device: torch.device) -> Loaded:
    """The reward model in `folder`, and what reads texts as it does."""
    return load_reward_model(folder, device), load_reader(folder)


def compute(
    folder: Path,
    comparisons: pl.DataFrame,
    masks: Mapping[str, Mask],
    budget: int,
    precision: str,
    device: torch.device,
    loaded: Loaded | None = None,
    halfway: Halfway | None = None,
) -> pl.DataFrame:
    """Scores of every comparison by the reward model in `folder` under every mask; masks: by fingerprint."""
    model, reader = loaded or load(folder, device)
    kept, packed = pack_table(reader, comparisons, longest_text(model.config))
    if not packed:
        return with_comparisons(pl.DataFrame(schema=SCORED), comparisons, masks)
    several = list(masks.values())
    find, rows = partial(ablated_scores, model, several), len(several)

    def only(row: int) -> Find:
        return partial(ablated_scores, model, several[row : row + 1])

    rewards, precisions = precise_rewards("evaluation", find, only, packed, rows, budget, precision, device, halfway)
    refuse_what_is_no_number(folder, rewards)
    scored = score_lists(rewards, packed, kept, list(masks))
    return with_comparisons(scored.with_columns(precision=pl.Series(precisions.ravel())), comparisons, masks)


def evaluate(
    folder: Path,
    comparisons: pl.DataFrame,
    selected: pl.DataFrame,
    ablations: Sequence[str],
    previous: pl.DataFrame | None,
    inputs: str,
    budget: int,
    device: torch.device,
    means: pl.DataFrame | None = None,
    is_judged: bool = True,
    precision: str = "float32",
    loaded: Loaded | None = None,
    halfway: Halfway | None = None,
    place: str = "comparisons",
) -> pl.DataFrame:
    """The scores file of one reward model on one benchmark; see SCHEMA.

    comparisons: comparison_id, task, orientation, chosen and rejected (lists of texts). selected: ablation, unit,
    layer, neuron. means: layer, neuron, mean, for ablations whose name ends in MEAN. What is ablated alike is computed
    once, and not at all where `previous` holds it: fingerprints tell, of what is ablated and of `inputs`, which stands
    for all else that scores depend on. precision: of matrix products; what bfloat16 might decide otherwise than float32
    is scored in that. loaded: the reward model, where it is in memory. halfway: where to write what is found meanwhile.
    place: the comparisons' file, for messages. UserError where comparisons that it is judged on are all too long.
    """
    config = load_config(folder)
    masks = {
        name: Mask.of(selected.filter(ablation=name.removesuffix(MEAN)), config, means if name.endswith(MEAN) else None)
        for name in ablations
    }
    fingerprints = {name: fingerprint(inputs, mask.content()) for name, mask in masks.items()}
    distinct = {fingerprints[name]: mask for name, mask in masks.items()}
    scores = reusable(previous, distinct)
    there = set(scores["fingerprint"])
    missing = {key: mask for key, mask in distinct.items() if key not in there}
    logger.info("%d of %d different ablations to compute", len(missing), len(distinct))
    if missing:
        halfway = halfway and halfway._replace(key=fingerprint(inputs, *missing))
        computed = compute(folder, comparisons, missing, budget, precision, device, loaded, halfway)
        if is_judged and computed["chosen_scores"].null_count() == len(computed):
            raise unread(place, len(comparisons), folder, longest_text(config))
        scores = pl.concat([scores, computed])
    named = pl.DataFrame({"ablation": fingerprints.keys(), "fingerprint": fingerprints.values()})
    return named.join(scores, on="fingerprint", maintain_order="left_right").select(*SCHEMA)
