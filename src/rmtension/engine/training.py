"""Training a reward model: the loop, its batches, and the checkpoint it resumes from."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from torch.nn.functional import logsigmoid

from rmtension.base.errors import UserError
from rmtension.base.files import fingerprint, read_table, remove_leftovers, replacing, write_checksums
from rmtension.base.memory import within_memory
from rmtension.base.processes import anywhere, signals_noted
from rmtension.base.progress import Progress
from rmtension.data.comparisons import PAIRS, as_comparisons
from rmtension.engine.architectures import longest_text
from rmtension.engine.checkpoints import read_checkpoint, write_checkpoint
from rmtension.engine.packing import Batch, Lengths, Packed, collate, group_by_length
from rmtension.engine.reward_model import (
    load_tokenizer,
    new_reward_model,
    pack_comparisons,
    save_reward_model,
    score,
)
from rmtension.study.stages import Training

logger = logging.getLogger(__name__)

T = TypeVar("T")
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


def shares(lengths: Lengths, index: Sequence[int], budget: int, processes: int) -> list[list[tuple[list[int], int]]]:
    """The micro-batches of each process: which pairs, and their weight, 1 or 0.

    Pairs are dealt out by length, so that all have about as much to do. All make the same number of micro-batches, as
    sharded weights are gathered by all at once: where one has fewer, it repeats a shortest pair at weight 0.
    """
    by_length = sorted(index, key=lambda i: lengths[i])
    groups = [group_by_length(lengths, by_length[rank::processes], budget) for rank in range(processes)]
    most = max(map(len, groups))
    return [[(group, 1) for group in own] + [([by_length[0]], 0)] * (most - len(own)) for own in groups]


@dataclass
class State:
    """What a checkpoint holds besides the model and the optimiser.

    There is no random state: nothing is drawn while training. The head and the order of the pairs are the seed's, the
    data position is `step`, and so is the learning rate's.
    """

    step: int
    budget: int  # most tokens of a micro-batch
    log: list[dict[str, Any]]
    best_loss: float
    best_weights: dict[str, Tensor]


class Trainer:
    """Full fine-tuning of one reward model on pairs, alone or in one of several processes that do it together."""

    def __init__(
        self, model: Any, settings: Training, epochs: int, seed: int, budget: int, sharded: bool = False
    ) -> None:
        self.settings, self.epochs, self.seed, self.sharded = settings, epochs, seed, sharded
        on_gpu = torch.cuda.is_available()
        self.accelerator = Accelerator(mixed_precision=mixed_precision(settings.precision), cpu=not on_gpu)
        scorer = Scorer(model)
        if sharded:
            from rmtension.engine import sharding

            sharding.shard(scorer, model._no_split_modules, self.accelerator.device)
        optimizer = torch.optim.AdamW(scorer.parameters(), lr=settings.learning_rate, weight_decay=0.0, fused=True)
        # Not for evaluation only, but without DistributedDataParallel: a process that runs out of memory between its
        # collectives could not tell the others. `step` adds up the gradients instead.
        self.scorer = self.accelerator.prepare_model(scorer, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.state = State(step=0, budget=budget, log=[], best_loss=math.inf, best_weights={})

    def micro_batches(self, pairs: Sequence[Packed], index: Sequence[int], budget: int) -> Iterator[tuple[Batch, int]]:
        """This process's share of the pairs at `index`, with weights, in groups of similar length within the budget."""
        lengths = {i: len(pairs[i]) for i in index}  # of the step alone: there may be many pairs
        dealt = shares(lengths, index, budget, self.accelerator.num_processes)
        for group, weight in dealt[self.accelerator.process_index]:
            yield collate(pairs, group).to(self.accelerator.device), weight

    def within_memory(self, work: Callable[[int], T], pairs: Sequence[Packed], index: Sequence[int]) -> T:
        """What `work` returns of the largest budget for which the device's memory suffices, from now on the budget."""
        if self.sharded:
            try:
                return work(self.state.budget)
            except torch.OutOfMemoryError:  # the others, in the midst of a collective, could not be told
                raise UserError(
                    f"out of device memory with {self.state.budget} tokens at a time: lower compute.training_tokens"
                ) from None
        result, self.state.budget = within_memory(work, self.state.budget, max(len(pairs[i]) for i in index))
        return result

    def total(self, *values: float) -> list[float]:
        """Sums of these values over all processes."""
        if self.accelerator.num_processes == 1:
            return [*values]
        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums)
        return sums.tolist()

    def step(self, pairs: Sequence[Packed], index: Sequence[int], rate: float) -> dict[str, Any]:
        """One optimiser step on the pairs at `index`, whatever number of micro-batches they take."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        work = partial(self.add_gradients, pairs, index)
        loss, correct, tokens = self.total(*self.within_memory(work, pairs, index))
        if self.accelerator.num_processes > 1 and not self.sharded:
            for parameter in self.scorer.parameters():
                distributed.all_reduce(parameter.grad)
        self.accelerator.clip_grad_norm_(self.scorer.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {
            "loss": loss,
            "accuracy": correct / len(index),
            "learning_rate": rate,
            "tokens": int(tokens),
            "seconds": time.perf_counter() - started,
        }

    def add_gradients(self, pairs: Sequence[Packed], index: Sequence[int], budget: int) -> tuple[float, int, int]:
        """Gradients of this process's share; returns its part of the mean loss, right pairs and tokens."""
        self.optimizer.zero_grad()  # what a pass has left that ran out of memory
        loss, correct, tokens = 0.0, 0, 0
        for batch, weight in self.micro_batches(pairs, index, budget):
            margin = margins(self.scorer(batch), batch)
            part = weight * bradley_terry(margin) / len(index)
            self.accelerator.backward(part)
            loss += part.item()
            correct += weight * int((margin > 0).sum())
            tokens += weight * sum(len(pairs[i]) for i in batch.index)
        return loss, correct, tokens

    def evaluate(self, pairs: Sequence[Packed]) -> tuple[float, float]:
        """Mean loss and accuracy."""
        index = range(len(pairs))
        loss, correct = self.total(*self.within_memory(partial(self.look, pairs, index), pairs, index))
        return loss / len(pairs), correct / len(pairs)

    @torch.no_grad()
    def look(self, pairs: Sequence[Packed], index: Sequence[int], budget: int) -> tuple[float, int]:
        """Loss, and right pairs, of this process's share."""
        loss, correct = 0.0, 0
        for batch, weight in self.micro_batches(pairs, index, budget):
            margin = margins(self.scorer(batch), batch)
            loss += weight * bradley_terry(margin).item()
            correct += weight * int((margin > 0).sum())
        return loss, correct

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
            self.state.best_weights = {name: value.clone() for name, value in self.weights().items()}
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    def fit(
        self, train: Sequence[Packed], validation: Sequence[Packed], checkpoint: Path, key: str, minutes: float = 0
    ) -> dict[str, Tensor]:
        """Train to the end, resuming from `checkpoint` where it holds this run; returns the weights that are kept.

        A checkpoint is written whenever so many minutes have passed, and on SIGTERM and SIGINT, which then end the
        training with a UserError. Weights are on the CPU, and empty but in the first process.
        """
        settings = self.settings
        plan = steps(len(train), settings.pairs_per_step, self.epochs, self.seed)
        self.resume(checkpoint, key)
        done = sum(len(index) for index in plan[: self.state.step])
        progress = Progress("training", sum(map(len, plan)), "pairs", done=done)
        saved = time.monotonic()
        with signals_noted(signal.SIGTERM, signal.SIGINT) as noted:
            for number, index in enumerate(plan[self.state.step :], start=self.state.step + 1):
                row = self.step(train, index, learning_rate(number - 1, len(plan), settings.learning_rate))
                self.state.step = number
                self.refuse_divergence(row["loss"])
                if number % settings.evaluation_interval == 0 or number == len(plan):
                    row |= self.validate(validation)
                self.state.log.append({"step": number} | row)
                progress.advance(len(index), row["tokens"], f"loss {row['loss']:.3f} accuracy {row['accuracy']:.2f}")
                if number == len(plan):
                    break
                stopping = anywhere(bool(noted))
                if stopping or anywhere(time.monotonic() - saved >= 60 * minutes):
                    self.save(checkpoint, key)
                    saved = time.monotonic()
                if stopping:
                    raise UserError(f"stopped by a signal; started again, training goes on from step {number}")
        return self.state.best_weights if settings.keep == "best" else self.weights()

    def log(self) -> pl.DataFrame:
        """One row a step; see LOG_SCHEMA."""
        return pl.DataFrame(self.state.log, schema=LOG_SCHEMA)

    def model(self) -> Any:
        """The model that was given."""
        return self.accelerator.unwrap_model(self.scorer).model

    def weights(self) -> dict[str, Tensor]:
        """The model's weights, whole and on the CPU; empty but in the first process."""
        if self.sharded:
            from rmtension.engine import sharding

            return sharding.weights(self.model())
        if not self.accelerator.is_main_process:
            return {}
        return {name: value.cpu() for name, value in self.model().state_dict().items()}

    def optimizer_state(self) -> dict[str, Any]:
        """Likewise the optimiser's state."""
        if self.sharded:
            from rmtension.engine import sharding

            return sharding.optimizer_state(self.model(), self.optimizer.optimizer)
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def save(self, checkpoint: Path, key: str) -> None:
        """Write model, optimiser and state, whole or not at all."""
        content = {"key": self.full_key(key), "model": self.weights(), "optimizer": self.optimizer_state()}
        if self.accelerator.is_main_process:
            write_checkpoint(content | vars(self.state), checkpoint)
        self.accelerator.wait_for_everyone()

    def resume(self, checkpoint: Path, key: str) -> None:
        """Take up a checkpoint of this very run; another one is left with a warning."""
        content = read_checkpoint(checkpoint, self.full_key(key), {"key", "model", "optimizer", *vars(self.state)})
        if content is None:
            return
        if self.sharded:
            from rmtension.engine import sharding

            sharding.restore(self.model(), self.optimizer.optimizer, content)
        else:
            self.model().load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
        self.state = State(**{name: content[name] for name in vars(self.state)})
        logger.info("resuming after step %d from %s", self.state.step, checkpoint)

    def full_key(self, key: str) -> str:
        """Hash of the key and of what else determines the bytes of the weights."""
        how = self.accelerator
        return fingerprint(f"{key} {how.device.type} {how.mixed_precision} {how.num_processes} {self.sharded}")


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
    gpus: int = 0
    sharded: bool = False

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
            "gpus": self.gpus,
            "sharded": self.sharded,
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


def train_reward_model(
    run: TrainingRun, checkpoint: Path, output: Path, environment: dict[str, str], minutes: float = 10
) -> None:
    """Train from `run`, through `checkpoint`, into the folder `output`: model, training.parquet, provenance.json.

    The same in each of several processes that train together; the first of them writes.
    """
    tokenizer = load_tokenizer(run.backbone)
    model = new_reward_model(run.backbone, run.seed, run.settings.head_deviation)
    max_tokens = min(run.settings.max_tokens, longest_text(model.config))
    train, train_left_out = packed_pairs(tokenizer, run.train, max_tokens)
    validation, validation_left_out = packed_pairs(tokenizer, run.validation, max_tokens)
    provenance = {"origins": run.origins(), "settings": run.choices(), "environment": environment}
    trainer = Trainer(model, run.settings, run.epochs, run.seed, run.budget, run.sharded)
    if trainer.accelerator.is_main_process:
        remove_leftovers(checkpoint)
    weights = trainer.fit(train, validation, checkpoint, json.dumps(provenance, sort_keys=True), minutes)
    if not trainer.accelerator.is_main_process:
        return
    provenance["pairs"] = {
        "train": len(train),
        "train_left_out": train_left_out,
        "validation": len(validation),
        "validation_left_out": validation_left_out,
    }
    provenance["device"] = {
        "type": trainer.accelerator.device.type,
        "precision": trainer.accelerator.mixed_precision,
        "training_tokens": trainer.state.budget,
    }
    with replacing(output) as folder:
        save_reward_model(model, tokenizer, folder, weights)
        write_checksums(folder)
        trainer.log().write_parquet(folder / "training.parquet")
        (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)
