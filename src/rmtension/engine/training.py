"""Training a reward model: the loop, and what goes into a run and comes out of it."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, fingerprint, read_table, remove_leftovers, replacing, write_checksums
from rmtension.base.processes import anywhere, signals_noted
from rmtension.base.progress import Progress
from rmtension.data.comparisons import PAIRS, as_comparisons, draw
from rmtension.engine.architectures import longest_text
from rmtension.engine.checkpoints import State, resume, save
from rmtension.engine.lean import Kept, KeptOnDisk
from rmtension.engine.learner import Learner
from rmtension.engine.packing import Packed
from rmtension.engine.placement import Replicated
from rmtension.engine.reading import Reader, load_backbone_reader
from rmtension.engine.repairs import Frozen, Projected
from rmtension.engine.reward_model import enough_memory, new_reward_model, pack_comparisons, save_reward_model
from rmtension.engine.sharding import Sharded
from rmtension.engine.steps import learning_rate, steps
from rmtension.study.stages import Training

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
# Read of the set of neurons whose weights stay as they are.
HELD = {"ablation": pl.String(), "layer": pl.Int32(), "neuron": pl.Int32()}

TOO_LARGE = (  # for the device, outside the passes, which make do with smaller batches
    "with weights, gradients and optimiser alone: take training.memory: lean, compute.sharded over several GPUs, or a "
    "larger GPU"
)


class Trainer:
    """Full fine-tuning of one reward model on pairs, alone or in one of several processes that do it together."""

    @enough_memory(TOO_LARGE)
    def __init__(
        self,
        model: Any,
        settings: Training,
        epochs: int,
        seed: int,
        budget: int,
        sharded: bool = False,
        learner: Callable[[Replicated, float], Learner] = Learner,
    ) -> None:
        self.settings, self.epochs, self.seed = settings, epochs, seed
        kind = Sharded if sharded else Replicated
        self.placed = kind(model, settings.learning_rate, settings.precision, budget, settings.memory)
        self.learner = learner(self.placed, settings.gradient_clip)
        self.state = State()

    @enough_memory(TOO_LARGE)
    def fit(
        self, train: Sequence[Packed], validation: Sequence[Packed], checkpoint: Path, key: str, minutes: float = 0
    ) -> dict[str, Tensor]:
        """Train to the end, resuming from `checkpoint` where it holds this run; returns the weights that are kept.

        A checkpoint is written whenever so many minutes have passed, and on SIGTERM and SIGINT, which then end the
        training with a UserError, after the step under way and before any look at the validation split. Weights are on
        the CPU, and empty but in the first process.
        """
        settings = self.settings
        plan = steps(len(train), settings.pairs_per_step, self.epochs, self.seed)
        in_memory = settings.memory == "full" or not self.placed.accelerator.is_main_process
        self.state = resume(self.placed, key, checkpoint, Kept() if in_memory else KeptOnDisk(checkpoint))
        done = sum(len(index) for index in plan[: self.state.step])
        progress = Progress("training", sum(map(len, plan)), "pairs", done=done)
        saved = time.monotonic()
        with signals_noted(signal.SIGTERM, signal.SIGINT) as noted:
            if self.is_look_due(len(plan)):  # a signal has put it off
                self.look_at(validation)
            for number, index in enumerate(plan[self.state.step :], start=self.state.step + 1):
                row = self.learner.step(train, index, learning_rate(number - 1, len(plan), settings.learning_rate))
                self.state.step = number
                self.refuse_divergence(row["loss"])
                self.state.log.append({"step": number} | row)
                progress.advance(len(index), row["tokens"], f"loss {row['loss']:.3f} accuracy {row['accuracy']:.2f}")
                stopping = anywhere(bool(noted))
                if self.is_look_due(len(plan)) and not stopping:
                    self.look_at(validation)
                    if number == len(plan):
                        break
                    stopping = anywhere(bool(noted))
                if stopping or anywhere(time.monotonic() - saved >= 60 * minutes):
                    save(self.state, self.placed, key, checkpoint)
                    saved = time.monotonic()
                if stopping:
                    raise UserError(f"stopped by a signal; started again, training goes on from step {number}")
        return self.state.best.get() if settings.keep == "best" else self.placed.weights()

    def is_look_due(self, steps: int) -> bool:
        """Whether the validation split is to be looked at after the last step, of so many, and has not been."""
        step, interval = self.state.step, self.settings.evaluation_interval
        return step > 0 and (step % interval == 0 or step == steps) and "validation_loss" not in self.state.log[-1]

    def look_at(self, pairs: Sequence[Packed]) -> None:
        """Look at the validation split, log it, and remember the weights if they are the best so far."""
        loss, accuracy = self.learner.evaluate(pairs)
        self.refuse_divergence(loss)
        logger.info("step %d: validation loss %.3f accuracy %.3f", self.state.step, loss, accuracy)
        if self.settings.keep == "best" and loss < self.state.best_loss:
            self.state.best_loss = loss
            self.state.best.put(self.placed.weights())
        self.state.log[-1] |= {"validation_loss": loss, "validation_accuracy": accuracy}

    def refuse_divergence(self, loss: float) -> None:
        if not math.isfinite(loss):
            peak = self.settings.learning_rate
            raise UserError(f"training diverged at step {self.state.step}: lower training.learning_rate = {peak}")

    def log(self) -> pl.DataFrame:
        """One row a step; see LOG_SCHEMA."""
        return pl.DataFrame(self.state.log, schema=LOG_SCHEMA)


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
    method: str = "joint"
    parts: list[str] = field(default_factory=list)  # regimes that come together by another method than joint
    objectives: Mapping[str, str] = field(default_factory=dict)  # of a projected one: source of pairs -> part
    frozen: Path | None = None  # of a frozen one: what is held fixed

    def origins(self) -> dict[str, str]:
        """Fingerprints of the files that the run reads; checksums.json stands for the backbone's."""
        return {
            "backbone": fingerprint(self.backbone / CHECKSUMS),
            "train": fingerprint(self.train),
            "validation": fingerprint(self.validation),
            "code": fingerprint(*self.code),
            **({"frozen": fingerprint(self.frozen)} if self.frozen else {}),
        }

    def making(self) -> dict[str, Any]:
        """How objectives come together in it."""
        made: dict[str, Any] = {"method": self.method}
        if self.parts:
            made["parts"] = self.parts
        if self.objectives:
            made["objectives"] = dict(self.objectives)
        if self.frozen:
            held = read_table(self.frozen, HELD)
            made["frozen"] = {"set": held["ablation"][0], "neurons": len(held)}
        return made

    def learner(self, sources: Sequence[str]) -> Callable[[Replicated, float], Learner]:
        """What learns; sources: of the pairs to train on."""
        if self.method == "projected":
            return partial(Projected, [self.objectives[source] for source in sources])
        if self.frozen:
            return partial(Frozen, read_table(self.frozen, HELD))
        return Learner

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


def packed_pairs(
    reader: Reader, file: Path, max_tokens: int, most: int | None = None, seed: int = 0
) -> tuple[list[Packed], list[str], int]:
    """The pairs of a file, or `most` of them, drawn by `seed`, packed; their sources; and how many were left out as a
    side is empty or longer than `max_tokens`."""
    frame = as_comparisons(draw(read_table(file, PAIRS), most, seed))
    kept, packed = pack_comparisons(reader, frame["chosen"].to_list(), frame["rejected"].to_list(), max_tokens)
    left_out = len(frame) - len(kept)
    logger.info("%s: %d pairs, %d left out for their length", file, len(kept), left_out)
    if not packed:
        raise UserError(f"{file}: none of {len(frame)} pairs is within training.max_tokens = {max_tokens}: raise it")
    return packed, frame["task"][kept].to_list(), left_out


def train_reward_model(
    run: TrainingRun, checkpoint: Path, output: Path, environment: dict[str, str], minutes: float = 10
) -> None:
    """Train from `run`, through `checkpoint`, into the folder `output`: model, training.parquet, provenance.json.

    The same in each of several processes that train together; the first of them writes.
    """
    model = new_reward_model(run.backbone, run.seed, run.settings.head_deviation)
    reader = load_backbone_reader(run.backbone)
    max_tokens = min(run.settings.max_tokens, longest_text(model.config))
    train, sources, train_left_out = packed_pairs(reader, run.train, max_tokens)
    looked_at = run.settings.evaluation_pairs, run.seed
    validation, _, validation_left_out = packed_pairs(reader, run.validation, max_tokens, *looked_at)
    provenance = run.making() | {"origins": run.origins(), "settings": run.choices(), "environment": environment}
    trainer = Trainer(model, run.settings, run.epochs, run.seed, run.budget, run.sharded, run.learner(sources))
    accelerator = trainer.placed.accelerator
    if accelerator.is_main_process:
        remove_leftovers(checkpoint)
    weights = trainer.fit(train, validation, checkpoint, json.dumps(provenance, sort_keys=True), minutes)
    if not accelerator.is_main_process:
        return
    provenance["pairs"] = {
        "train": len(train),
        "train_left_out": train_left_out,
        "validation": len(validation),
        "validation_left_out": validation_left_out,
    }
    provenance["device"] = {
        "type": accelerator.device.type,
        "precision": accelerator.mixed_precision,
        "training_tokens": trainer.placed.budget,
    }
    with replacing(output) as folder:
        save_reward_model(model, reader.tokenizer, folder, weights)
        write_checksums(folder)
        trainer.log().write_parquet(folder / "training.parquet")
        (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)
