"""Training: TRL's RewardTrainer, with its defaults and better settings, against ours. `make bench-train`.

All take the same pairs in the same steps, and their losses are compared step by step.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks import harness, workloads
from benchmarks.harness import Side
from benchmarks.side import Measured, Stopwatch, warm_up
from rmtension.base.device import start_torch
from rmtension.data.comparisons import as_comparisons
from rmtension.engine.reward_model import load_reward_model, load_tokenizer
from rmtension.engine.steps import learning_rate, steps
from rmtension.engine.training import Trainer
from rmtension.study.stages import Memory, Training

SETTINGS = Training()
STEP = SETTINGS.pairs_per_step
TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}  # float32 on a CPU, bfloat16 on a GPU


def ours(reward_model: str, comparisons: str, budget: int, memory: Memory = "full") -> Measured:
    load, work = Stopwatch(), Stopwatch()
    with load:
        device = start_torch(torch.get_num_threads(), gpus=1)
        model = load_reward_model(Path(reward_model), device)
        pairs = workloads.packed(load_tokenizer(Path(reward_model)), pl.read_parquet(comparisons))
        warm_up(model)
    plan = steps(len(pairs), STEP, 1, seed=0)
    with work:
        settings = SETTINGS.model_copy(update={"memory": memory})
        learner = Trainer(model, settings, epochs=1, seed=0, budget=budget).learner
        rates = [learning_rate(i, len(plan), SETTINGS.learning_rate) for i in range(len(plan))]
        log = [learner.step(pairs, index, rate) for index, rate in zip(plan, rates, strict=True)]
    tokens = sum(batch.tokens.numel() for index in plan for batch, _ in learner.micro_batches(pairs, index, budget))
    operations = 3 * workloads.useful_operations(model.config, pairs)
    return Measured(work.seconds, load.seconds, tokens, {"loss": np.array([row["loss"] for row in log])}, operations)


def trl(name: str, goal: float | None, file: Path, job: dict[str, Any], changes: dict[str, Any], about: str) -> Side:
    target = "benchmarks.rivals.trl_trainer:measured"
    more = {"messages": str(file), "pairs_per_step": STEP, "changes": changes}
    return Side(name, target, job | more, tool="trl", goal=goal, settings=about)


def main() -> None:
    chosen = harness.options(__doc__, pairs=32, micro_batch=2, budget=0)
    budget = harness.budget(chosen)
    model = workloads.reward_model(chosen.backbone)
    frame = workloads.pairs(model, chosen.source, "train", chosen.pairs // STEP * STEP, chosen.seed)
    comparisons = as_comparisons(frame)
    longest = [max(lengths) for lengths in workloads.text_lengths(model, comparisons)]
    plan = steps(len(frame), STEP, 1, seed=0)
    orders = {
        "random": [i for step in plan for i in step],
        "sorted": [i for step in plan for i in sorted(step, key=longest.__getitem__)],
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = Path(folder) / "pairs.parquet"
        comparisons.write_parquet(file)
        for name, order in orders.items():
            rows = [{side: workloads.messages(frame[side][i]) for side in ("chosen", "rejected")} for i in order]
            workloads.write_json(rows, file.with_name(f"{name}.json"))
        job: dict[str, Any] = {"reward_model": str(model)}
        ours_job = job | {"comparisons": str(file), "budget": budget}
        plain, small = {"gradient_checkpointing": False}, {"per_device_train_batch_size": chosen.micro_batch}
        random, by_length = (file.with_name(f"{name}.json") for name in orders)
        sides = [
            Side("ours", "benchmarks.train:ours", ours_job, settings=f"batches of at most {budget} tokens"),
            Side("ours, lean", "benchmarks.train:ours", ours_job | {"memory": "lean"}, compared=False,
                settings=f"training.memory: lean, batches of at most {budget} tokens"),
            trl("TRL, defaults", 8, random, job, {}, "gradient checkpointing, micro-batches of 8 pairs"),
            trl("TRL, no checkpointing", 4, random, job, plain, "micro-batches of 8 pairs, in random order"),
            trl("TRL, best", 1.6, by_length, job, plain | small,
                f"no checkpointing, micro-batches of {chosen.micro_batch} pairs, a step's pairs sorted by length"),
            Side("limit", "benchmarks.limit:measured", ours_job | {"pairs_per_step": STEP}, compared=False),
        ]  # fmt: skip
        about = {
            "backbone": chosen.backbone, "data": f"HH-RLHF, {chosen.source}", "comparisons": len(frame), "passes": 1,
            "text_tokens": workloads.text_tokens(model, comparisons),
        }  # fmt: skip
        harness.compare("train", sides, chosen, about, TOLERANCE[chosen.device], limit_goal=0.6)


if __name__ == "__main__":
    harness.start(main)
