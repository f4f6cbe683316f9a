"""Activation statistics: every text padded to 1,024 tokens (the authors' way) against ours; and mean |a| of one model
alone by plain hooks, nnsight and TransformerLens. `make bench-statistics`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch

from benchmarks import harness, workloads
from benchmarks.harness import Side
from benchmarks.side import Measured, Stopwatch, warm_up
from rmtension.base.device import start_torch
from rmtension.data.comparisons import as_comparisons
from rmtension.engine.activations import activation_statistics, mean_absolute
from rmtension.engine.packing import batches
from rmtension.engine.reward_model import load_backbone, load_reward_model, load_tokenizer

# Not frac_positive: values so near to zero that their sign is the rounding's make it differ by a token or two.
COMPARED = ("mean", "mean_abs", "rms", "change_rms")
TOLERANCE, ALONE_TOLERANCE = 1e-4, 1e-5


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


def ours_alone(reward_model: str, comparisons: str, budget: int) -> Measured:
    """Mean |a| of one model."""
    load, work = Stopwatch(), Stopwatch()
    with load:
        device = start_torch(torch.get_num_threads(), gpus=1)
        model, tokenizer = load_reward_model(Path(reward_model), device), load_tokenizer(Path(reward_model))
        frame = pl.read_parquet(comparisons)
        warm_up(model)
    with work:
        pairs = workloads.packed(tokenizer, frame)
        values = {"mean_abs": mean_absolute(model, pairs, budget, device).numpy()}
    tokens = sum(batch.tokens.numel() for batch in batches(pairs, budget))
    return Measured(work.seconds, load.seconds, tokens, values, workloads.useful_operations(model.config, pairs))


def bench_two_models(chosen: argparse.Namespace, job: Mapping[str, str], about: Mapping[str, Any], budget: int) -> None:
    both = {**job, "backbone": str(workloads.backbone(chosen.backbone))}
    sides = [
        Side("ours", "benchmarks.statistics:ours", both | {"budget": budget},
             settings=f"batches of at most {budget} tokens"),
        Side("padded to 1,024", "benchmarks.rivals.padded_statistics:measured",
             both | {"batch_size": chosen.batch_size}, goal=9, settings=f"batches of {chosen.batch_size} texts"),
        Side("limit", "benchmarks.limit:measured", {**job, "budget": budget, "pairs_per_step": 0}, compared=False),
    ]  # fmt: skip
    harness.compare("statistics", sides, chosen, {**about, "passes": 2}, TOLERANCE, limit_goal=0.7)


def bench_mean_absolute(
    chosen: argparse.Namespace, job: Mapping[str, str], about: Mapping[str, Any], budget: int
) -> None:
    texts = str(Path(job["comparisons"]).with_name("texts.json"))
    frame = pl.read_parquet(job["comparisons"])
    sorted_texts = [sorted(frame[side].explode().to_list(), key=len) for side in ("chosen", "rejected")]
    workloads.write_json(sorted_texts, Path(texts))
    theirs = {"reward_model": job["reward_model"], "texts": texts, "batch_size": chosen.batch_size}
    goals = {"nnsight": 1.45, "hooks": 1.55, "transformer-lens": 2.1}
    sides = [
        Side("ours", "benchmarks.statistics:ours_alone", {**job, "budget": budget},
             settings=f"batches of at most {budget} tokens"),
        *(Side(way, "benchmarks.rivals.mean_absolute:measured", theirs | {"way": way}, tool="lenses", goal=goal,
               settings=f"batches of {chosen.batch_size} texts by length") for way, goal in goals.items()),
        Side("limit", "benchmarks.limit:measured", {**job, "budget": budget, "pairs_per_step": 0}, compared=False),
    ]  # fmt: skip
    harness.compare("mean-absolute", sides, chosen, {**about, "passes": 1}, ALONE_TOLERANCE, limit_goal=0.7)


def main() -> None:
    chosen = harness.options(__doc__, pairs=16, batch_size=8, budget=0)
    budget, model = harness.budget(chosen), workloads.reward_model(chosen.backbone)
    comparisons = as_comparisons(workloads.pairs(model, chosen.source, "train", chosen.pairs, chosen.seed))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = Path(folder) / "pairs.parquet"
        comparisons.write_parquet(file)
        job = {"reward_model": str(model), "comparisons": str(file)}
        about = {
            "backbone": chosen.backbone, "data": f"HH-RLHF, {chosen.source}", "comparisons": len(comparisons),
            "text_tokens": workloads.text_tokens(model, comparisons),
        }  # fmt: skip
        bench_two_models(chosen, job, about, budget)
        bench_mean_absolute(chosen, job, about, budget)


if __name__ == "__main__":
    harness.start(main)
