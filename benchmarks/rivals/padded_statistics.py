"""The authors' way to activation statistics: every text padded to 1,024 tokens, hooks, sums of each layer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.side import Measured, Stopwatch, device, warm_up
from rmtension.engine.architectures import activation_modules

LENGTH = 1024


def hooked(model: Any) -> dict[int, Tensor]:
    """A dict that holds the activations [B, T, neurons] of every layer after each forward pass."""
    kept: dict[int, Tensor] = {}

    def hook(layer: int, _module: object, _inputs: object, output: Tensor) -> None:
        kept[layer] = output

    for layer, module in enumerate(activation_modules(model)):
        module.register_forward_hook(partial(hook, layer))
    return kept


def terms(value: Tensor, base: Tensor, mask: Tensor) -> Tensor:
    """Sums [5, neurons] over the real tokens of a batch; mask: [B, T, 1]."""
    each = (value, value.abs(), value.square(), (value > 0).to(value.dtype), (value - base).square())
    return torch.stack([(term * mask).sum((0, 1)) for term in each]).double()


@torch.no_grad()
def measured(reward_model: str, backbone: str, comparisons: str, batch_size: int) -> Measured:
    load, work = Stopwatch(), Stopwatch()
    with load:
        trained = AutoModelForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32)
        trained, base = trained.to(device()), AutoModel.from_pretrained(backbone, dtype=torch.float32).to(device())
        tokenizer = AutoTokenizer.from_pretrained(reward_model, padding_side="right")
        frame = pl.read_parquet(Path(comparisons))
        warm_up(trained)
    of_trained, of_base = hooked(trained), hooked(base)
    sums: dict[tuple[int, int], Any] = {}
    counts, computed = [0, 0], 0
    with work:
        for side, name in enumerate(("chosen", "rejected")):
            texts = frame[name].explode().to_list()
            for start in range(0, len(texts), batch_size):
                batch = tokenizer(
                    texts[start : start + batch_size], padding="max_length", max_length=LENGTH, return_tensors="pt"
                ).to(device())
                inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
                base(**inputs, use_cache=False)
                trained(**inputs, use_cache=False)
                mask = inputs["attention_mask"][..., None]
                for layer, value in of_trained.items():
                    sums[layer, side] = sums.get((layer, side), 0) + terms(value, of_base[layer], mask)
                counts[side] += int(mask.sum())
                computed += 2 * mask.numel()
        layers = len(of_trained)
        total = torch.stack([torch.stack([sums[layer, side] for side in (0, 1)]) for layer in range(layers)])
        mean = total / torch.tensor(counts, device=total.device)[:, None, None]  # [layers, responses, 5, neurons]
    names = ("mean", "mean_abs", "rms", "frac_positive", "change_rms")
    values = {name: mean[:, :, i].sqrt() if "rms" in name else mean[:, :, i] for i, name in enumerate(names)}
    # As a table sorted by layer, neuron and response.
    tables = {name: value.transpose(1, 2).flatten().cpu().numpy() for name, value in values.items()}
    return Measured(work.seconds, load.seconds, computed, tables)
