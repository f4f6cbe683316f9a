"""Evaluation: rewardbench's own pipeline, and RM-Bench in padded batches, against ours. `make bench-evaluation`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from transformers import AutoConfig

from benchmarks import harness, workloads
from benchmarks.ablation import PADDED, TOLERANCE, scored
from benchmarks.harness import Side
from benchmarks.side import Measured, Stopwatch
from rmtension.data.benchmarks import read_benchmark
from rmtension.engine.packing import batches
from rmtension.engine.reward_model import load_tokenizer
from rmtension.study.benchmarks import PublishedBenchmark

FILTERED = "allenai/reward-bench/data/filtered-00000-of-00001.parquet"  # as rewardbench's own data set lies
NOTHING = {"ablation": pl.String, "unit": pl.String, "layer": pl.Int32, "neuron": pl.Int32}


def reward_bench(folder: str) -> pl.DataFrame:
    settings = PublishedBenchmark.model_validate({"kind": "reward-bench", "path": FILTERED, "tasks": "all"})
    return read_benchmark("reward-bench", settings, folder)


def ours(reward_model: str, folder: str, budget: int) -> Measured:
    """The benchmark is read as well, as rewardbench does."""
    read = Stopwatch()
    with read:
        frame = reward_bench(folder)
    seconds, load_seconds, scores = scored(Path(reward_model), frame, pl.DataFrame(schema=NOTHING), ["none"], budget)
    row = pl.col("comparison_id").str.extract(r"(\d+)$").cast(pl.Int64)
    pairs = scores.sort(row).select(pl.concat_list("chosen_scores", "rejected_scores").explode())
    packed = workloads.packed(load_tokenizer(Path(reward_model)), frame)
    tokens = sum(batch.tokens.numel() for batch in batches(packed, budget))
    operations = workloads.useful_operations(AutoConfig.from_pretrained(reward_model), packed)
    return Measured(read.seconds + seconds, load_seconds, tokens, {"score": pairs.to_series().to_numpy()}, operations)


def bench_reward_bench(chosen: argparse.Namespace, model: Path, budget: int, scratch: Path) -> None:
    rows = workloads.reward_bench(model, chosen.pairs, chosen.seed)
    (scratch / FILTERED).parent.mkdir(parents=True)
    rows.write_parquet(scratch / FILTERED)
    (scratch / "reward-model").symlink_to(model)
    comparisons = reward_bench(str(scratch))
    comparisons.write_parquet(scratch / "comparisons.parquet")
    # With GPT-2 rewardbench is right for one text a batch alone: it pads on the left (docs/interchange.md).
    size = 1 if AutoConfig.from_pretrained(model).model_type == "gpt2" else 8
    limit = {"reward_model": str(model), "comparisons": str(scratch / "comparisons.parquet")}
    sides = [
        Side("ours", "benchmarks.evaluation:ours",
             {"reward_model": str(model), "folder": str(scratch), "budget": budget},
             settings=f"batches of at most {budget} tokens"),
        Side("rewardbench", "benchmarks.rivals.rewardbench_pipeline:measured",
             {"folder": str(scratch), "batch_size": size}, tool="rewardbench", goal=3,
             settings=f"batches of {size} texts{', its default' if size == 8 else ''}"),
        Side("limit", "benchmarks.limit:measured", limit | {"budget": budget, "pairs_per_step": 0}, compared=False),
    ]  # fmt: skip
    about = {
        "backbone": chosen.backbone, "data": "RewardBench, filtered", "comparisons": len(rows), "passes": 1,
        "text_tokens": workloads.text_tokens(model, comparisons),
    }  # fmt: skip
    harness.compare("evaluation-reward-bench", sides, chosen, about, TOLERANCE, limit_goal=0.7)


def bench_rm_bench(chosen: argparse.Namespace, model: Path, budget: int, scratch: Path) -> None:
    comparisons = workloads.rm_bench(model, chosen.prompts, chosen.seed)
    file, sets = scratch / "rm-bench.parquet", scratch / "selected.parquet"
    comparisons.write_parquet(file)
    pl.DataFrame(schema=NOTHING).write_parquet(sets)
    job: dict[str, Any] = {"reward_model": str(model), "comparisons": str(file)}
    whole = job | {"selected": str(sets), "ablations": ["none"]}
    sides = [
        Side("ours", "benchmarks.ablation:ours", whole | {"budget": budget},
             settings=f"batches of at most {budget} tokens"),
        Side("padded batches", PADDED, whole | {"batch_size": chosen.batch_size}, goal=3,
             settings=f"batches of {chosen.batch_size} texts"),
        Side("limit", "benchmarks.limit:measured", job | {"budget": budget, "pairs_per_step": 0}, compared=False),
    ]  # fmt: skip
    about = {
        "backbone": chosen.backbone, "data": "RM-Bench, six candidates a prompt", "comparisons": len(comparisons),
        "passes": 1, "text_tokens": workloads.text_tokens(model, comparisons),
    }  # fmt: skip
    harness.compare("evaluation-rm-bench", sides, chosen, about, TOLERANCE, limit_goal=0.7)


def main() -> None:
    chosen = harness.options(__doc__, pairs=48, prompts=12, batch_size=16, budget=0)
    budget = harness.budget(chosen)
    model = workloads.reward_model(chosen.backbone)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        bench_rm_bench(chosen, model, budget, Path(folder))
        bench_reward_bench(chosen, model, budget, Path(folder))  # needs an environment of its own


if __name__ == "__main__":
    harness.start(main)
