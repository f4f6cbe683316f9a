"""The usual way to scores under ablations: for each of them load the model, hook it, and score batches of texts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.side import Measured, Stopwatch, device
from rmtension.engine.architectures import activation_modules


def zeroed(neurons: Tensor, _module: object, _inputs: object, output: Tensor) -> Tensor:
    output[..., neurons] = 0
    return output


def hook(model: Any, ablation: pl.DataFrame) -> None:
    """Set neurons to zero, rows of layer and neuron."""
    modules = activation_modules(model)
    for (layer,), rows in ablation.group_by("layer"):
        modules[int(str(layer))].register_forward_hook(partial(zeroed, rows["neuron"].to_torch().long()))


@torch.no_grad()
def measured(reward_model: str, comparisons: str, selected: str, ablations: list[str], batch_size: int) -> Measured:
    """Texts in the order given, padded on the right to the longest of their batch."""
    load, work = Stopwatch(), Stopwatch()
    frame, sets = pl.read_parquet(Path(comparisons)), pl.read_parquet(Path(selected))
    texts = frame.select(pl.concat_list("chosen", "rejected").explode()).to_series().to_list()
    scores, tokens = [], 0
    for name in ablations:
        with load:
            tokenizer = AutoTokenizer.from_pretrained(reward_model, padding_side="right")
            model = AutoModelForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32)
            model = model.eval().to(device())
            hook(model, sets.filter(ablation=name))
        with work:
            for start in range(0, len(texts), batch_size):
                batch = tokenizer(texts[start : start + batch_size], padding=True, return_tensors="pt").to(device())
                inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
                scores.append(model(**inputs, use_cache=False).logits.squeeze(-1).cpu().numpy())
                tokens += inputs["input_ids"].numel()
    return Measured(work.seconds, load.seconds, tokens, {"score": np.concatenate(scores)})
