"""TRL's RewardTrainer on the pairs of our steps. Runs in TRL's environment."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import RewardConfig, RewardTrainer

from benchmarks.side import Measured, Stopwatch, warm_up


class Recording(RewardTrainer):  # type: ignore[misc]
    """Keeps the loss of every micro-batch in full, and counts tokens."""

    losses: list[float]
    tokens: int

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        self.tokens += inputs["input_ids"].numel()
        result = super().compute_loss(model, inputs, *args, **options)
        self.losses.append(float(result))
        return result


def measured(reward_model: str, messages: str, pairs_per_step: int, changes: dict[str, Any]) -> Measured:
    """messages: a file of pairs of messages, in the order of our steps; changes: of RewardConfig's defaults."""
    load, work = Stopwatch(), Stopwatch()
    with tempfile.TemporaryDirectory() as output, load:
        settings = RewardConfig(
            output_dir=output, num_train_epochs=1, train_sampling_strategy="sequential", report_to=[],
            save_strategy="no", bf16=torch.cuda.is_available(), use_cpu=not torch.cuda.is_available(), **changes,
        )  # fmt: skip
        # 16 pairs a step, whatever fits in a micro-batch.
        settings.gradient_accumulation_steps = pairs_per_step // settings.per_device_train_batch_size
        trainer = Recording(
            model=reward_model, args=settings, train_dataset=Dataset.from_list(json.loads(Path(messages).read_text())),
            processing_class=AutoTokenizer.from_pretrained(reward_model),
        )  # fmt: skip
        trainer.losses, trainer.tokens = [], 0
        warm_up(trainer.model)
    with work:
        trainer.train()
    losses = torch.tensor(trainer.losses).reshape(-1, settings.gradient_accumulation_steps)
    return Measured(work.seconds, load.seconds, trainer.tokens, {"loss": losses.mean(1).numpy()})
