"""What training, statistics and scores cost as their work grows: tokens, seconds, memory. `make bench-growth`.

On made comparisons of random tokens and random backbones, so that one thing varies at a time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from benchmarks import harness, workloads
from benchmarks.harness import Side
from benchmarks.side import Measured, Stopwatch, warm_up
from rmtension.base.device import start_torch
from rmtension.engine.ablation import Mask
from rmtension.engine.activations import activation_statistics
from rmtension.engine.attention import PACKED
from rmtension.engine.evaluation import candidate_scores
from rmtension.engine.packing import Packed, batches, pack
from rmtension.engine.steps import learning_rate, steps
from rmtension.engine.training import Trainer
from rmtension.running.amounts import BYTES, size_of
from rmtension.study.stages import Training

PLAIN = {"pairs": 4, "length": 128, "candidates": 2, "ablations": 1}
WORKS = ("train", "statistics", "evaluate")
LEAN = "lean training"
# What varies -> its values, and the work whose cost may depend on it.
SERIES: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
    "pairs": ((4, 16, 64), WORKS),
    "length": ((64, 128, 256, 512, 1024), WORKS),
    "candidates": ((2, 4, 8), ("evaluate",)),
    "ablations": ((1, 4, 16), ("evaluate",)),
    "backbone": (("tiny", "135m-shaped", "360m-shaped", "1.7b-shaped"), (*WORKS, LEAN)),
}
# Bytes a parameter: weights, gradients and moments; a trained and a base model; a model.
HELD = {"train": BYTES["training"], "statistics": 2 * BYTES["weights"], "evaluate": BYTES["weights"]}
HELD |= {LEAN: BYTES["lean_training"]}


def made(n: int, length: int, candidates: int, vocabulary: int) -> list[Packed]:
    """Comparisons of texts of `length` tokens, the first half of them shared."""
    rng = np.random.default_rng(0)
    comparisons = []
    for _ in range(n):
        own = rng.integers(vocabulary, size=(candidates, length - length // 2))
        own[:, 0] = rng.permutation(vocabulary)[:candidates]  # so that no more is shared
        prompt = rng.integers(vocabulary, size=length // 2)
        texts = [np.concatenate([prompt, one]) for one in own]
        comparisons.append(pack(texts[: candidates // 2], texts[candidates // 2 :]))
    return comparisons


def point(work: str, backbone: str, pairs: int, length: int, candidates: int, ablations: int, budget: int) -> Measured:
    load, timer, device = Stopwatch(), Stopwatch(), start_torch(torch.get_num_threads(), gpus=1)
    config = workloads.shape(backbone)
    with load:
        torch.manual_seed(0)
        config.num_labels, config.pad_token_id = 1, 0
        packed = {"attn_implementation": PACKED}
        model = AutoModelForSequenceClassification.from_config(config, **packed).eval().to(device)
        base = AutoModel.from_config(config, **packed).eval().to(device) if work == "statistics" else None
        warm_up(model)
    comparisons, passes = made(pairs, length, candidates, config.vocab_size), 1
    sets = workloads.random_sets(config, ablations).partition_by("ablation", maintain_order=True)
    masks = [Mask.of(one, config) for one in sets]
    with timer:
        if work in ("train", LEAN):
            settings = Training(memory="lean" if work == LEAN else "full")
            plan, passes = steps(pairs, settings.pairs_per_step, 1, seed=0), 3
            trainer = Trainer(model, settings, epochs=1, seed=0, budget=budget)
            for i, index in enumerate(plan):
                trainer.learner.step(comparisons, index, learning_rate(i, len(plan), settings.learning_rate))
        elif work == "statistics":
            activation_statistics(model, base, comparisons, budget, device)
            passes = 2
        else:
            candidate_scores(model, comparisons, masks, budget, device)
            passes = ablations
    tokens = sum(batch.tokens.numel() for batch in batches(comparisons, budget))
    operations = passes * workloads.useful_operations(config, comparisons)
    return Measured(timer.seconds, load.seconds, tokens * (1 if work in ("train", LEAN) else passes), {}, operations)


def points(backbone: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What varies, and the job."""
    for varies, (values, works) in SERIES.items():
        for work in works:
            for value in values:
                yield varies, {"backbone": backbone, "work": work} | PLAIN | {varies: value}


def main() -> None:
    chosen = harness.options(__doc__, backbone="135m-shaped", budget=0)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if chosen.device == "cuda" and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
    found, left_out = [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for varies, job in points(chosen.backbone):
            name = f"{job['work']}, {varies} {job[varies]}"
            parameters = size_of(workloads.shape(job["backbone"])).parameters
            needed = HELD[job["work"]] * parameters + BYTES["process"]
            if needed > memory:
                left_out.append(f"{name}: needs {needed / 1e9:.0f} GB and more, there are {memory / 1e9:.0f}")
                continue
            side = Side(name, "benchmarks.growth:point", job | {"budget": harness.budget(chosen)})
            turns = [
                harness.take_turn(side, chosen.device, chosen.threads, Path(scratch))[0] for _ in range(chosen.rounds)
            ]
            took = harness.summary(side, turns, 0.0)
            print(f"{name}: {harness.typical(took['seconds']):.2f} s", flush=True)
            found.append({"varies": varies, "work": job["work"], "value": job[varies], "parameters": parameters} | took)
    harness.write("growth", chosen, {"backbone": chosen.backbone, "points": found, "left_out": left_out})


if __name__ == "__main__":
    harness.start(main)
