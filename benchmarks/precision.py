"""Decisions of a scoring in bfloat16, with and without its re-check, against float32. `make bench-precision`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import harness, workloads
from benchmarks.side import Stopwatch
from rmtension.base.device import arithmetic, start_torch
from rmtension.data.comparisons import as_comparisons
from rmtension.engine.ablation import Mask
from rmtension.engine.decisions import all_pairs, decide
from rmtension.engine.evaluation import candidate_scores
from rmtension.engine.packing import Packed
from rmtension.engine.reward_model import load_reward_model, load_tokenizer, pack_comparisons


def decisions(rewards: NDArray[np.float32], comparisons: Sequence[Packed]) -> NDArray[np.bool_]:
    """Of rewards [rows, candidates]: whether each comparison [rows, comparisons] is right."""
    chosen, rejected, starts = all_pairs(comparisons)
    return np.logical_and.reduceat(rewards[:, chosen] > rewards[:, rejected], starts, axis=1)


def measured(model: Any, masks: Sequence[Mask], packed: Sequence[Packed], budget: int) -> dict[str, Any]:
    """What differs, and what is scored again, as engine.decisions.precise_rewards does it."""
    seconds = {"float32": Stopwatch(), "bfloat16": Stopwatch(), "again in float32": Stopwatch()}

    def scores(precision: str, turn: str, masks: Sequence[Mask], packed: Sequence[Packed]) -> NDArray[np.float32]:
        with seconds[turn], arithmetic(precision, model.device):
            return candidate_scores(model, packed, masks, budget, model.device)

    expected = scores("float32", "float32", masks, packed)
    rounded = scores("bfloat16", "bfloat16", masks, packed)
    found, again = rounded.copy(), 0
    for row, mask in zip(found, masks, strict=True):

        def exact(some: Sequence[Packed], mask: Mask = mask) -> NDArray[np.float32]:
            [of_mask] = scores("float32", "again in float32", [mask], some)
            return np.asarray(of_mask)

        again += int(decide(row, packed, exact).sum())
    right = decisions(expected, packed)
    return {
        "decisions": right.size,
        "differing": int((decisions(found, packed) != right).sum()),
        "differing_unchecked": int((decisions(rounded, packed) != right).sum()),
        "scored_again": again,
        "largest_error": float(np.abs(rounded - expected).max()),
        "deviation": float(expected.std(axis=1).mean()),
        "seconds": {turn: watch.seconds for turn, watch in seconds.items()},
    }


def main() -> None:
    chosen = harness.options(__doc__, pairs=340, ablations=30, max_tokens=128, budget=0)
    device, budget = start_torch(chosen.threads, gpus=chosen.device == "cuda"), harness.budget(chosen)
    folder = workloads.reward_model(chosen.backbone)
    pairs = workloads.pairs(folder, chosen.source, "train", chosen.pairs, chosen.seed, chosen.max_tokens)
    comparisons, model = as_comparisons(pairs), load_reward_model(folder, device)
    sides = comparisons["chosen"].to_list(), comparisons["rejected"].to_list()
    _, packed = pack_comparisons(load_tokenizer(folder), *sides, chosen.max_tokens)
    sets = workloads.random_sets(model.config, chosen.ablations)
    masks = [Mask.of(of, model.config) for of in sets.partition_by("ablation", maintain_order=True)]
    about = {"backbone": chosen.backbone, "data": f"HH-RLHF, {chosen.source}", "comparisons": len(packed)}
    about |= {"passes": len(masks), "max_tokens": chosen.max_tokens, "torch": torch.__version__}
    figures = measured(model, masks, packed, budget)
    harness.write("precision", chosen, about | figures)
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    harness.start(main)
