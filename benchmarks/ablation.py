"""Ablations of one reward model: one text a forward pass, and padded batches, against ours. `make bench-ablation`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import torch
from transformers import AutoConfig

from benchmarks import harness, workloads
from benchmarks.harness import Side
from benchmarks.side import Measured, Stopwatch
from rmtension.base.device import start_torch
from rmtension.data.comparisons import as_comparisons
from rmtension.engine import evaluation
from rmtension.engine.packing import batches
from rmtension.engine.reading import load_reader
from rmtension.engine.reward_model import load_reward_model, load_tokenizer

TOLERANCE = 2e-4
PADDED = "benchmarks.rivals.padded_scores:measured"


def scored(
    reward_model: Path, comparisons: pl.DataFrame, selected: pl.DataFrame, ablations: list[str], budget: int
) -> tuple[float, float, pl.DataFrame]:
    """Seconds of `evaluate`, those of its loading the model, and the scores."""
    load, work = Stopwatch(), Stopwatch()
    device = start_torch(torch.get_num_threads(), gpus=1)
    reader, model = load.around(load_reader), load.around(load_reward_model)
    with patch.multiple(evaluation, load_reader=reader, load_reward_model=model), work:
        scores = evaluation.evaluate(reward_model, comparisons, selected, ablations, None, "", budget, device)
    return work.seconds - load.seconds, load.seconds, scores


def ours(reward_model: str, comparisons: str, selected: str, ablations: list[str], budget: int) -> Measured:
    frame, sets, folder = pl.read_parquet(comparisons), pl.read_parquet(selected), Path(reward_model)
    seconds, load_seconds, scores = scored(folder, frame, sets, ablations, budget)
    values = scores.select(pl.concat_list("chosen_scores", "rejected_scores").explode()).to_series().to_numpy()
    packed = workloads.packed(load_tokenizer(folder), frame)
    tokens = len(ablations) * sum(batch.tokens.numel() for batch in batches(packed, budget))
    operations = len(ablations) * workloads.useful_operations(AutoConfig.from_pretrained(folder), packed)
    return Measured(seconds, load_seconds, tokens, {"score": values}, operations)


def main() -> None:
    chosen = harness.options(__doc__, pairs=8, ablations=45, batch_size=16, budget=0)
    budget = harness.budget(chosen)
    model = workloads.reward_model(chosen.backbone)
    comparisons = as_comparisons(workloads.pairs(model, chosen.source, "test", chosen.pairs, chosen.seed))
    selected = workloads.random_sets(AutoConfig.from_pretrained(model), chosen.ablations)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file, sets = Path(folder) / "pairs.parquet", Path(folder) / "selected.parquet"
        comparisons.write_parquet(file)
        selected.write_parquet(sets)
        job: dict[str, Any] = {"reward_model": str(model), "comparisons": str(file)}
        names = selected["ablation"].unique(maintain_order=True).to_list()
        ablated = job | {"selected": str(sets), "ablations": names}
        sides = [
            Side("ours", "benchmarks.ablation:ours", ablated | {"budget": budget},
                 settings=f"batches of at most {budget} tokens"),
            Side("one text a pass", PADDED, ablated | {"batch_size": 1}, goal=10,
                 settings="the model loaded each time"),
            Side("padded batches", PADDED, ablated | {"batch_size": chosen.batch_size}, goal=3,
                 settings=f"the model loaded each time, batches of {chosen.batch_size} texts"),
            Side("limit", "benchmarks.limit:measured", job | {"budget": budget, "pairs_per_step": 0}, compared=False),
        ]  # fmt: skip
        about = {
            "backbone": chosen.backbone, "data": f"HH-RLHF, {chosen.source}, test", "comparisons": len(comparisons),
            "passes": len(names), "text_tokens": workloads.text_tokens(model, comparisons),
        }  # fmt: skip
        harness.compare("ablation", sides, chosen, about, TOLERANCE, limit_goal=0.7)


if __name__ == "__main__":
    harness.start(main)
