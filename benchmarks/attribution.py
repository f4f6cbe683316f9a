"""Attributions against the statistics of the same pairs, a pass of two models. `make bench-attribution`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import torch

from benchmarks import harness, workloads
from benchmarks.harness import Side
from benchmarks.side import Measured, Stopwatch, warm_up
from rmtension.base.device import start_torch
from rmtension.data.comparisons import as_comparisons
from rmtension.engine.attribution import attributions
from rmtension.engine.packing import batches
from rmtension.engine.reward_model import load_reward_model, load_tokenizer


def ours(reward_model: str, comparisons: str, budget: int) -> Measured:
    load, work = Stopwatch(), Stopwatch()
    with load:
        device = start_torch(torch.get_num_threads(), gpus=1)
        model = load_reward_model(Path(reward_model), device)
        frame, tokenizer = pl.read_parquet(comparisons), load_tokenizer(Path(reward_model))
        warm_up(model)
    with work:
        pairs = workloads.packed(tokenizer, frame)
        attributions(model, pairs, budget, device)
    tokens = 2 * sum(batch.tokens.numel() for batch in batches(pairs, budget))
    # The two sides compute different figures: there is nothing to hold against each other, only what they take.
    return Measured(work.seconds, load.seconds, tokens, {}, 2 * workloads.useful_operations(model.config, pairs))


def main() -> None:
    chosen = harness.options(__doc__, pairs=16, budget=0)
    budget = harness.budget(chosen)
    model, backbone = workloads.reward_model(chosen.backbone), workloads.backbone(chosen.backbone)
    comparisons = as_comparisons(workloads.pairs(model, chosen.source, "train", chosen.pairs, chosen.seed))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = Path(folder) / "pairs.parquet"
        comparisons.write_parquet(file)
        job = {"reward_model": str(model), "comparisons": str(file), "budget": budget}
        settings = f"batches of at most {budget} tokens"
        sides = [
            Side("ours", "benchmarks.attribution:ours", job, settings=settings),
            # Attributions are to take at most 2.5 times as long as these.
            Side("statistics", "benchmarks.statistics:ours", job | {"backbone": str(backbone)}, goal=0.4,
                 settings=settings),
        ]  # fmt: skip
        about = {
            "backbone": chosen.backbone, "data": f"HH-RLHF, {chosen.source}", "comparisons": len(comparisons),
            "passes": 2, "text_tokens": workloads.text_tokens(model, comparisons),
        }  # fmt: skip
        harness.compare("attribution", sides, chosen, about, tolerance=0)


if __name__ == "__main__":
    harness.start(main)
