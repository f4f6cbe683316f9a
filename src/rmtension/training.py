"""Training a reward model: the loop, its batches, and the checkpoint it resumes from."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from rmtension.architectures import longest_text
from rmtension.comparisons import PAIRS, as_comparisons
from rmtension.errors import UserError
from rmtension.files import fingerprint, read_table, replacing
from rmtension.packing import Batch, Packed, batches, collate, group_by_length
from rmtension.progress import Progress
from rmtension.reward_model import (
    load_tokenizer,
    new_reward_model,
    pack_comparisons,
    save_reward_model,
    score,
)
from rmtension.study import Training

logger = logging.getLogger(__name__)

LOG_SCHEMA = {
    "step": pl.Int64,
    "loss": pl.Float64,
    "accuracy": pl.Float64,
    "learning_rate": pl.Float64,
    "tokens": pl.Int64,
    "seconds": pl.Float64,
    "validation_loss": pl.Float64,
    "validation_accuracy": pl.Float64,
}


class Scorer(nn.Module):
    """Gives a reward model a forward pass over packed batches, so that accelerate can wrap it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return score(self.model, batch)


def margins(rewards: Tensor, batch: Batch) -> Tensor:
    """Reward of the chosen minus reward of the rejected text of each pair [B], in float32."""
    return rewards[batch.chosen].float() - rewards[~batch.chosen].float()


def bradley_terry(margin: Tensor) -> Tensor:
    """Sum over pairs of -log sigmoid(chosen - rejected) (docs/methods.md, section 3)."""
    return -logsigmoid(margin).sum()


def steps(n_pairs: int, pairs_per_step: int, epochs: int, seed: int) -> list[list[int]]:
    """The pairs of every optimiser step: each epoch a fresh random order of all pairs, its last step perhaps short."""
    orders = [np.random.default_rng([seed, epoch]).permutation(n_pairs).tolist() for epoch in range(epochs)]
    return [order[i : i + pairs_per_step] for order in orders for i in range(0, n_pairs, pairs_per_step)]


def learning_rate(step: int, n_steps: int, peak: float) -> float:
    """Linear decay without warm-up: `peak` at step 0, zero after the last."""
    return peak * (1 - step / n_steps)


def mixed_precision(precision: str) -> str:
    """Accelerate's name for the arithmetic; weights stay float32 in either case."""
    capable = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16" if precision == "bfloat16" or (precision == "auto" and capable) else "no"


@dataclass
class State:
    """What a checkpoint holds besides the model and the optimiser."""

    step: int
    log: list[dict[str, Any]]
    best_loss: float
    best_weights: dict[str, Tensor]


class Trainer:
    """Full fine-tuning of one reward model on pairs."""

    def __init__(self, model: Any, settings: Training, epochs: int, seed: int, budget: int) -> None:
        self.settings, self.epochs, self.seed, self.budget = settings, epochs, seed, budget
        self.accelerator = Accelerator(mixed_precision=mixed_precision(settings.precision))
        scorer = Scorer(model)
        optimizer = torch.optim.AdamW(scorer.parameters(), lr=settings.learning_rate, weight_decay=0.0)
        self.scorer, self.optimizer = self.accelerator.prepare(scorer, optimizer)
        self.state = State(step=0, log=[], best_loss=math.inf, best_weights={})

    def micro_batches(self, pairs: Sequence[Packed], index: Sequence[int]) -> Iterator[Batch]:
        """The pairs at `index` in groups of similar length within the token budget."""
        for group in group_by_length([len(pair) for pair in pairs], index, self.budget):
            yield collate(pairs, group).to(self.accelerator.device)

    def step(self, pairs: Sequence[Packed], index: Sequence[int], rate: float) -> dict[str, Any]:
        """One optimiser step on the pairs at `index`, whatever number of micro-batches they take."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, correct, tokens = 0.0, 0, 0
        for batch in self.micro_batches(pairs, index):
            margin = margins(self.scorer(batch), batch)
            part = bradley_terry(margin) / len(index)
            self.accelerator.backward(part)
            loss += part.item()
            correct += int((margin > 0).sum())
            tokens += sum(len(pairs[i]) for i in batch.index)
        self.accelerator.clip_grad_norm_(self.scorer.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {
            "loss": loss,
            "accuracy": correct / len(index),
            "learning_rate": rate,
            "tokens": tokens,
            "seconds": time.perf_counter() - started,
        }

    @torch.inference_mode()
    def evaluate(self, pairs: Sequence[Packed]) -> tuple[float, float]:
        """Mean loss and accuracy."""
        loss, correct = 0.0, 0
        for batch in batches(pairs, self.budget):
            batch = batch.to(self.accelerator.device)
            margin = margins(self.scorer(batch), batch)
            loss += bradley_terry(margin).item()
            correct += int((margin > 0).sum())
        return loss / len(pairs), correct / len(pairs)

    def refuse_divergence(self, loss: float) -> None:
        if not math.isfinite(loss):
            peak = self.settings.learning_rate
            raise UserError(f"training diverged at step {self.state.step}: lower training.learning_rate = {peak}")

    def validate(self, pairs: Sequence[Packed]) -> dict[str, float]:
        """Look at the validation split and remember the weights if they are the best so far."""
        loss, accuracy = self.evaluate(pairs)
        self.refuse_divergence(loss)
        if self.settings.keep == "best" and loss < self.state.best_loss:
            self.state.best_loss = loss
            weights = self.accelerator.unwrap_model(self.scorer).state_dict()
            self.state.best_weights = {name: value.cpu().clone() for name, value in weights.items()}
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    def fit(self, train: Sequence[Packed], validation: Sequence[Packed], checkpoint: Path, key: str) -> pl.DataFrame:
        """Train to the end, resuming from `checkpoint` where it holds this run; returns the log, one row a step.

        The model that was given holds the kept weights afterwards.
        """
        settings = self.settings
        plan = steps(len(train), settings.pairs_per_step, self.epochs, self.seed)
        self.resume(checkpoint, key)
        done = sum(len(index) for index in plan[: self.state.step])
        progress = Progress("training", sum(map(len, plan)), "pairs", done=done)
        for number, index in enumerate(plan[self.state.step :], start=self.state.step + 1):
            row = self.step(train, index, learning_rate(number - 1, len(plan), settings.learning_rate))
            self.state.step = number
            self.refuse_divergence(row["loss"])
            if number % settings.evaluation_interval == 0 or number == len(plan):
                row |= self.validate(validation)
            self.state.log.append({"step": number} | row)
            if number % settings.checkpoint_interval == 0 and number < len(plan):
                self.save(checkpoint, key)
            progress.advance(len(index), row["tokens"], f"loss {row['loss']:.3f} accuracy {row['accuracy']:.2f}")
        if settings.keep == "best":
            self.accelerator.unwrap_model(self.scorer).load_state_dict(self.state.best_weights)
        return pl.DataFrame(self.state.log, schema=LOG_SCHEMA)

    def save(self, checkpoint: Path, key: str) -> None:
        """Write model, optimiser and state, whole or not at all."""
        content = {
            "key": key,
            "model": self.accelerator.unwrap_model(self.scorer).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": vars(self.state),
        }
        with replacing(checkpoint) as temporary:
            torch.save(content, temporary)

    def resume(self, checkpoint: Path, key: str) -> None:
        """Take up a checkpoint of this very run; another one, or one that cannot be read, is left with a warning."""
        if not checkpoint.exists():
            return
        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            logger.warning("checkpoint %s cannot be read (%s): training starts over", checkpoint, error)
            return
        if content["key"] != key:
            logger.warning("checkpoint %s is of other settings, data or code: training starts over", checkpoint)
            return
        self.accelerator.unwrap_model(self.scorer).load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.state = State(**content["state"])
        logger.info("resuming after step %d from %s", self.state.step, checkpoint)


@dataclass(frozen=True)
class TrainingRun:
    """All that determines a trained reward model."""

    backbone: Path
    train: Path
    validation: Path
    code: list[Path]
    settings: Training
    epochs: int
    seed: int
    budget: int
    threads: int

    def origins(self) -> dict[str, str]:
        """Fingerprints of the files that the run reads."""
        return {
            "backbone": fingerprint(*sorted(self.backbone.iterdir())),
            "train": fingerprint(self.train),
            "validation": fingerprint(self.validation),
            "code": fingerprint(*self.code),
        }

    def choices(self) -> dict[str, Any]:
        """Everything that the study file sets."""
        return {
            "training": self.settings.model_dump(mode="json"),
            "epochs": self.epochs,
            "seed": self.seed,
            "training_tokens": self.budget,
            "threads": self.threads,
        }


def packed_pairs(tokenizer: Any, file: Path, max_tokens: int) -> tuple[list[Packed], int]:
    """The pairs of a file, packed, and how many were left out because a side is empty or longer than `max_tokens`."""
    frame = as_comparisons(read_table(file, PAIRS))
    kept, packed = pack_comparisons(tokenizer, frame["chosen"].to_list(), frame["rejected"].to_list(), max_tokens)
    left_out = len(frame) - len(kept)
    logger.info("%s: %d pairs, %d left out for their length", file, len(kept), left_out)
    if not packed:
        raise UserError(f"{file}: no pair within training.max_tokens = {max_tokens}")
    return packed, left_out


def train_reward_model(run: TrainingRun, checkpoint: Path, output: Path, environment: dict[str, str]) -> None:
    """Train from `run`, through `checkpoint`, into the folder `output`: model, training.parquet, provenance.json."""
    tokenizer = load_tokenizer(run.backbone)
    model = new_reward_model(run.backbone, run.seed, run.settings.head_deviation)
    max_tokens = min(run.settings.max_tokens, longest_text(model.config))
    train, train_left_out = packed_pairs(tokenizer, run.train, max_tokens)
    validation, validation_left_out = packed_pairs(tokenizer, run.validation, max_tokens)
    provenance = {"origins": run.origins(), "settings": run.choices(), "environment": environment}
    trainer = Trainer(model, run.settings, run.epochs, run.seed, run.budget)
    log = trainer.fit(train, validation, checkpoint, key=json.dumps(provenance, sort_keys=True))
    provenance["pairs"] = {
        "train": len(train),
        "train_left_out": train_left_out,
        "validation": len(validation),
        "validation_left_out": validation_left_out,
    }
    provenance["device"] = {
        "type": trainer.accelerator.device.type,
        "precision": trainer.accelerator.mixed_precision,
    }
    with replacing(output) as folder:
        save_reward_model(model, tokenizer, folder)
        log.write_parquet(folder / "training.parquet")
        (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)
