"""Activation statistics: every text padded to 1,024 tokens (the authors' way) against ours. `make bench-statistics`."""

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
from rmtension.engine.activations import activation_statistics
from rmtension.engine.packing import batches
from rmtension.engine.reward_model import load_backbone, load_reward_model, load_tokenizer

# Not frac_positive: values so near to zero that their sign is the rounding's make it differ by a token or two.
COMPARED = ("mean", "mean_abs", "rms", "change_rms")
TOLERANCE = 1e-4


def ours(reward_model: str, backbone: str, comparisons: str, budget: int) -> Measured:
    load, work = Stopwatch(), Stopwatch()
    with load:
        device = start_torch(torch.get_num_threads(), gpus=1)
        trained, base = load_reward_model(Path(reward_model), device), load_backbone(Path(backbone), device)
        frame, tokenizer = pl.read_parquet(comparisons), load_tokenizer(Path(reward_model))
        warm_up(trained)
    with work:
        pairs = workloads.packed(tokenizer, frame)
        found = activation_statistics(trained, base, pairs, budget, device)
    values = {name: found.neurons[name].to_numpy() for name in COMPARED}
    tokens = 2 * sum(batch.tokens.numel() for batch in batches(pairs, budget))
    return Measured(work.seconds, load.seconds, tokens, values, 2 * workloads.useful_operations(trained.config, pairs))


def main() -> None:
    chosen = harness.options(__doc__, pairs=16, batch_size=8, budget=0)
    budget = harness.budget(chosen)
    model, backbone = workloads.reward_model(chosen.backbone), workloads.backbone(chosen.backbone)
    comparisons = as_comparisons(workloads.pairs(model, chosen.source, "train", chosen.pairs, chosen.seed))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = Path(folder) / "pairs.parquet"
        comparisons.write_parquet(file)
        job = {"reward_model": str(model), "comparisons": str(file)}
        both, batches_of = job | {"backbone": str(backbone)}, f"batches of {chosen.batch_size} texts"
        limit = job | {"budget": budget, "pairs_per_step": 0}
        sides = [
            Side("ours", "benchmarks.statistics:ours", both | {"budget": budget},
                 settings=f"batches of at most {budget} tokens"),
            Side("padded to 1,024", "benchmarks.rivals.padded_statistics:measured",
                 both | {"batch_size": chosen.batch_size}, goal=9, settings=batches_of),
            Side("limit", "benchmarks.limit:measured", limit, compared=False),
        ]  # fmt: skip
        about = {
            "backbone": chosen.backbone, "data": f"HH-RLHF, {chosen.source}", "comparisons": len(comparisons),
            "passes": 2, "text_tokens": workloads.text_tokens(model, comparisons),
        }  # fmt: skip
        harness.compare("statistics", sides, chosen, about, TOLERANCE, limit_goal=0.7)


if __name__ == "__main__":
    harness.start(main)
