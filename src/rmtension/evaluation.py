"""Scores of every comparison of one benchmark under every ablation, with the model loaded once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import AutoConfig

from rmtension.ablation import ablated
from rmtension.architectures import layer_sizes
from rmtension.files import fingerprint
from rmtension.packing import Packed, batches
from rmtension.progress import Progress
from rmtension.reward_model import load_reward_model, load_tokenizer, pack_comparisons, score

logger = logging.getLogger(__name__)

SCHEMA: dict[str, pl.DataType] = {
    "ablation": pl.String(),
    "comparison_id": pl.String(),
    "task": pl.String(),
    "orientation": pl.String(),
    "chosen_scores": pl.List(pl.Float32()),
    "rejected_scores": pl.List(pl.Float32()),
    "correct": pl.Boolean(),
    "fingerprint": pl.String(),
}


def neuron_masks(selected: pl.DataFrame, ablations: Sequence[str], config: Any) -> dict[str, Tensor]:
    """Bool mask [layers, neurons of a layer] of every ablation; one without rows ablates nothing."""
    masks = {}
    for name in ablations:
        neurons = selected.filter(pl.col("ablation") == name)
        mask = np.zeros(layer_sizes(config), dtype=np.bool_)
        mask[neurons["layer"], neurons["neuron"]] = True
        masks[name] = torch.from_numpy(mask)
    return masks


def scoring_fingerprint(folder: Path, comparisons: Path, code: Sequence[Path], budget: int, threads: int) -> str:
    """All that one reward model's scores on one benchmark depend on, but for what is ablated."""
    model = [file for file in sorted(folder.iterdir()) if file.suffix in (".safetensors", ".json")]
    model = [file for file in model if file.name != "provenance.json"]
    return fingerprint(*model, comparisons, *code, f"{budget} {threads}")


def ablation_fingerprints(masks: Mapping[str, Tensor], inputs: str) -> dict[str, str]:
    """What each ablation's scores depend on: `inputs` (model, comparisons, settings, code) and its neurons."""
    return {name: fingerprint(inputs, mask.numpy().tobytes()) for name, mask in masks.items()}


@torch.inference_mode()
def candidate_scores(
    model: Any, comparisons: Sequence[Packed], masks: Mapping[str, Tensor], budget: int, device: torch.device
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rewards [ablations, candidates], candidates in the order of `comparisons`, chosen before rejected."""
    ends = np.cumsum([0, *(len(packed.ends) for packed in comparisons)])
    rewards = np.empty((len(masks), ends[-1]), dtype=np.float32)
    progress = Progress("evaluation", len(comparisons) * len(masks), "comparisons")
    for batch in batches(comparisons, budget):
        batch = batch.to(device)
        columns = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in batch.index])
        for row, mask in enumerate(masks.values()):
            with ablated(model, mask):
                rewards[row, columns] = score(model, batch).float().cpu().numpy()
        progress.advance(len(batch.index) * len(masks), tokens=batch.tokens.numel() * len(masks))
    return rewards


def score_lists(
    rewards: np.ndarray[Any, np.dtype[np.float32]],
    comparisons: Sequence[Packed],
    kept: Sequence[int],
    names: list[str],
) -> pl.DataFrame:
    """One row for each ablation and scored comparison: ablation, row, chosen_scores, rejected_scores, correct.

    A comparison is correct when its lowest chosen score is above its highest rejected one; a tie is wrong (METHOD,
    section 6).
    """
    sizes = [len(packed.ends) for packed in comparisons]
    candidates = pl.DataFrame(
        {
            "row": np.repeat(np.asarray(kept, dtype=np.int64), sizes),
            "chosen": np.concatenate([np.arange(n) < p.n_chosen for n, p in zip(sizes, comparisons, strict=True)]),
        }
    )
    frames = [
        candidates.with_columns(ablation=pl.lit(n), score=pl.Series(r)) for n, r in zip(names, rewards, strict=True)
    ]
    return (
        pl.concat(frames)
        .group_by("ablation", "row", maintain_order=True)
        .agg(
            chosen_scores=pl.col("score").filter(pl.col("chosen")),
            rejected_scores=pl.col("score").filter(~pl.col("chosen")),
        )
        .with_columns(correct=pl.col("chosen_scores").list.min() > pl.col("rejected_scores").list.max())
    )


def assemble(scored: pl.DataFrame, comparisons: pl.DataFrame, fingerprints: Mapping[str, str]) -> pl.DataFrame:
    """The scores file: every comparison under every ablation; null scores where a comparison could not be scored."""
    index = comparisons.select("comparison_id", "task", "orientation").with_row_index("row")
    ablations = pl.DataFrame({"ablation": fingerprints.keys(), "fingerprint": fingerprints.values()})
    frame = ablations.join(index.cast({"row": pl.Int64}), how="cross", maintain_order="left_right")
    return frame.join(scored, on=["ablation", "row"], how="left", maintain_order="left").select(
        pl.col(name).cast(kind) for name, kind in SCHEMA.items()
    )


def reusable(previous: pl.DataFrame | None, fingerprints: Mapping[str, str]) -> pl.DataFrame:
    """Rows of an earlier scores file that still hold: same ablation name, same fingerprint."""
    if previous is None or previous.schema != SCHEMA:
        return pl.DataFrame(schema=SCHEMA)
    current = pl.DataFrame({"ablation": fingerprints.keys(), "fingerprint": fingerprints.values()})
    return previous.join(current, on=["ablation", "fingerprint"], how="semi", maintain_order="left")


def compute(
    folder: Path, comparisons: pl.DataFrame, masks: Mapping[str, Tensor], budget: int, device: torch.device
) -> pl.DataFrame:
    """score_lists of the reward model in `folder` under every mask."""
    tokenizer, model = load_tokenizer(folder), load_reward_model(folder, device)
    sides = comparisons["chosen"].to_list(), comparisons["rejected"].to_list()
    kept, packed = pack_comparisons(tokenizer, *sides, max_tokens=model.config.max_position_embeddings)
    if len(kept) < len(comparisons):
        logger.warning("%d comparisons exceed the model's length: scores are null", len(comparisons) - len(kept))
    rewards = candidate_scores(model, packed, masks, budget, device)
    return score_lists(rewards, packed, kept, list(masks))


def evaluate(
    folder: Path,
    comparisons: pl.DataFrame,
    selected: pl.DataFrame,
    ablations: Sequence[str],
    previous: pl.DataFrame | None,
    inputs: str,
    budget: int,
    device: torch.device,
) -> pl.DataFrame:
    """The scores file of one reward model on one benchmark; see SCHEMA.

    comparisons: comparison_id, task, orientation, chosen and rejected (lists of texts). selected: ablation, layer,
    neuron. Only ablations that `previous` does not hold with the same fingerprint are computed; `inputs` is the
    fingerprint of all else that scores depend on.
    """
    masks = neuron_masks(selected, ablations, AutoConfig.from_pretrained(folder))
    fingerprints = ablation_fingerprints(masks, inputs)
    kept = reusable(previous, fingerprints)
    missing = [name for name in ablations if name not in kept["ablation"]]
    logger.info("%d of %d ablations to compute", len(missing), len(ablations))
    if missing:
        scored = compute(folder, comparisons, {name: masks[name] for name in missing}, budget, device)
        fresh = assemble(scored, comparisons, {name: fingerprints[name] for name in missing})
        kept = pl.concat([kept, fresh])
    parts = kept.partition_by("ablation", as_dict=True)
    return pl.concat([parts[(name,)] for name in ablations])
