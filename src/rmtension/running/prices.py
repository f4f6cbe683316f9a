"""What one job of a study takes, by its rule."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from rmtension.base.errors import UserError
from rmtension.engine.decisions import SAMPLE
from rmtension.running.amounts import BYTES, KNOWN, RULES, SPLITS, Amounts, Size, Volume
from rmtension.study.explored import explored_sets
from rmtension.study.measured import (
    ablated_sets,
    compared_objectives,
    compared_sets,
    observed_sets,
    patched_on,
    scored_on,
)
from rmtension.study.models import MadeModel, Shortened
from rmtension.study.naming import ranks_heads, sized
from rmtension.study.section import Located, nearest
from rmtension.study.study import Study

Price = tuple[float, float, float]  # of one job: seconds, bytes of memory, bytes of files


class Machines:
    """What the jobs of a study run on, and how fast."""

    def __init__(self, amounts: Amounts, device: str | None, utilisation: float | None) -> None:
        if device is not None and device not in KNOWN["devices"]:
            raise UserError(f"--device: no device '{device}'; {nearest(device, KNOWN['devices'])}")
        self.study, self.assume = amounts.study, amounts.assume
        self.device, self.utilisation = device, utilisation

    def device_of(self, model: str) -> dict[str, Any]:
        """What trains and scores a model: what was asked for, else by whether its jobs ask for a GPU."""
        name = self.device or ("a100" if self.study.models[model].compute.gpus else "cpu")
        device: dict[str, Any] = {"name": name} | KNOWN["devices"][name]
        self.assume(f"device {name}: {device['basis']}")
        if self.utilisation is not None:
            instead = " and ".join(f"{share:g} in {work}" for work, share in device["utilisation"].items())
            self.assume(f"device {name}: utilisation {self.utilisation:g} as given, instead of {instead}")
            device["utilisation"] = dict.fromkeys(device["utilisation"], self.utilisation)
        return device

    def processes(self, rule: str, model: str) -> int:
        """How many GPUs a job takes, where it takes any: a process on each."""
        on_gpu = "cores" not in self.device_of(model)
        return max(self.study.models[model].compute.gpus, 1) if on_gpu and rule == "train" else 1

    def seconds(self, model: str, device: dict[str, Any], work: str, precision: str, operations: float) -> float:
        """work: training or scoring."""
        return float(device["start"] + operations / self.rate(model, device, work, precision))

    def rate(self, model: str, device: dict[str, Any], work: str, precision: str) -> float:
        """Operations a second."""
        threads = self.study.models[model].compute.threads
        cores = threads / device["cores"] if "cores" in device else 1
        return float(device["tflops"][precision] * 1e12 * device["utilisation"][work] * cores)

    def scoring_seconds(self, model: str, operations: float, in_float32: float = 0) -> float:
        """Of a job without gradients; in_float32: operations more, which are in that whatever the study says."""
        precision, device = self.study.models[model].compute.inference_precision, self.device_of(model)
        again = in_float32 / self.rate(model, device, "scoring", "float32")
        return self.seconds(model, device, "scoring", precision, operations) + again


def without_model(rule: str) -> Price:
    return RULES[rule]["seconds"], RULES[rule]["memory_gb"] * 1e9, 0


def kept_for_a_backward_pass(size: Size, study: Study, model: str, in_float32: bool, lean: bool = False) -> float:
    """Bytes of what a micro-batch of a model keeps; lean: of each layer its input, and of one at a time the rest."""
    units = max(study.models[model].compute.training_tokens, 2 * study.training.max_tokens) * size.width
    of_layer = float(BYTES["kept"] * (2 if in_float32 else 1) * units)
    return of_layer + BYTES["layer_input"] * size.layers * units if lean else of_layer * size.layers


class Prices:
    """What prices are reckoned from. Methods are named after a rule, and give the price of one of its jobs."""

    def __init__(self, amounts: Amounts, machines: Machines) -> None:
        self.study, self.amounts, self.machines = amounts.study, amounts, machines
        self.assume = amounts.assume


class FilePrices(Prices):
    """Of jobs that no reward model computes in."""

    def data(self, regime: str) -> Price:
        n = sum(n for split in SPLITS for n, *_ in self.amounts.volume(regime, split))
        return *without_model("data")[:2], BYTES["comparison"] * n

    def benchmark_comparisons(self, benchmark: str) -> Price:
        return *without_model("benchmark_comparisons")[:2], BYTES["comparison"] * self.amounts.comparisons(benchmark)

    def backbone(self, model: str) -> Price:
        settings, seconds, disk = self.study.models[model], RULES["backbone"]["seconds"], 0.0
        is_cut = isinstance(settings.source, Shortened) and settings.source.layers
        if is_cut or not isinstance(settings.source, Located):  # others are only linked
            disk = BYTES["weights"] * self.amounts.size(model).parameters
        if isinstance(settings.source, MadeModel):
            texts = settings.source.pretraining.texts * settings.source.pretraining.epochs
            operations = 3 * self.amounts.size(model).forward([(texts, self.amounts.tokens("synthetic"), 1)])
            seconds += self.machines.seconds(model, KNOWN["devices"]["cpu"], "training", "float32", operations)
        return seconds, settings.compute.mem_mb * 1e6, disk

    def merge(self, model: str) -> Price:
        weights = BYTES["weights"] * self.amounts.size(model).parameters
        return RULES["merge"]["seconds"], 2 * weights + BYTES["process"], weights

    def rankings(self, model: str, rule: str) -> Price:
        """One of the rules that rank neurons and choose sets of them."""
        size, ablation = self.amounts.size(model), self.study.ablation
        scorings = sum(not ranks_heads(scoring) for scoring in self.study.neurons.scorings)
        neurons = size.layers * size.neurons
        sizes = map(sized, [ablation.percent, *(ablation.sweep if rule == "select" else [])])
        chosen = sum(count or (percent or 0) * neurons / 100 for percent, count in sizes)
        disk = BYTES["ranking_row"] * neurons if rule == "neurons" else BYTES["set_row"] * chosen
        return *without_model(rule)[:2], scorings * disk

    def tables(self) -> Price:
        """By the files that they read of all reward models."""
        study = self.study
        places = product(study.regimes, scored_on(study))
        rows = len(study.models) * sum(self.amounts.score_rows(*place) for place in places)
        rankings = len(study.with_neurons()) * sum(self.rankings(model, "neurons")[2] for model in study.models)
        patched = len(study.models) * sum(self.amounts.patched_rows(*place) for place in patched_on(study))
        read = {"scores": BYTES["score_row"] * rows, "neurons": rankings, "patched": BYTES["score_row"] * patched}
        read = {kind: len(study.seeds) * size for kind, size in read.items() if size}
        seconds, memory, _ = without_model("tables")
        self.assume("tables: " + " and ".join(f"{size / 1e6:,.0f} MB of {kind}" for kind, size in read.items()))
        for kind, size in read.items():
            seconds += KNOWN["tables"][kind]["seconds"] * size
            memory += KNOWN["tables"][kind]["memory"] * size
        return seconds, memory, 0


class GradientPrices(Prices):
    """Of jobs that go forward and back."""

    def train(self, model: str, regime: str) -> Price:
        settings, size, device = self.study.training, self.amounts.size(model), self.machines.device_of(model)
        epochs, on_gpu = self.study.regimes[regime].epochs, "cores" not in device
        train, held = self.amounts.volume(regime, "train"), self.amounts.volume(regime, settings.select_on)
        steps = epochs * math.ceil(sum(n for n, *_ in train) / settings.pairs_per_step)
        looks = math.ceil(steps / settings.evaluation_interval)
        there = sum(n for n, *_ in held)
        looked_at = min(there, settings.evaluation_pairs or there)
        lean = settings.memory == "lean"
        operations = (4 if lean else 3) * epochs * size.forward(train) + looks * looked_at / there * size.forward(held)
        self.assume(f"regime {regime}: {steps:,} steps, and {looks:,} looks at {looked_at:,.0f} pairs")
        in_float32 = settings.precision == "float32" or (settings.precision == "auto" and not on_gpu)
        compute, processes = self.study.models[model].compute, self.machines.processes("train", model)
        if processes > 1:
            self.assume(f"{model}: {processes} GPUs train {processes} times as fast as one")
        precision = "float32" if in_float32 else "bfloat16"
        seconds = self.machines.seconds(model, device, "training", precision, operations / processes)
        copies = 0 if on_gpu or lean else BYTES["best_copy"]
        copies += BYTES["weights"] if self.study.regimes[regime].method == "projected" else 0  # of gradients
        memory = size.parameters * (BYTES["lean_training" if lean else "training"] + copies)
        memory /= processes if compute.sharded else 1
        memory += kept_for_a_backward_pass(size, self.study, model, in_float32, lean)
        return seconds, memory + BYTES["process"], BYTES["weights"] * size.parameters

    def attribution(self, model: str, regime: str) -> Price:
        """Forward and back; back to activations, not to weights, takes as many operations."""
        size, compute = self.amounts.size(model), self.study.models[model].compute
        seconds = self.machines.scoring_seconds(model, 2 * self.amounts.one_pass(model, regime))
        kept = kept_for_a_backward_pass(size, self.study, model, compute.inference_precision != "bfloat16")
        memory = BYTES["weights"] * size.parameters + kept + BYTES["process"]
        return seconds, memory, BYTES["attribution_row"] * size.layers * (size.neurons + size.heads)

    def conflict(self, model: str, regime: str) -> Price:
        """A pass forward and back over each objective's pairs; gradients of four halves are held."""
        settings, size, study = self.study.conflict, self.amounts.size(model), self.study
        assert settings is not None
        two = compared_objectives(study, regime)
        operations = 0.0
        for objective in {name for pair in two for name in pair}:
            pairs = self.amounts.volume(objective, "test")
            n = sum(n for n, *_ in pairs)
            operations += 3 * min(1, (settings.max_pairs or n) / n) * size.forward(pairs)
        device, precision = self.machines.device_of(model), study.models[model].compute.inference_precision
        seconds = self.machines.seconds(model, device, "training", precision, operations)
        memory = BYTES["weights"] * (size.parameters + 4 * size.computing)
        memory += kept_for_a_backward_pass(size, study, model, in_float32=True)
        disk = BYTES["statistics_row"] * len(two) * size.layers * size.neurons
        return seconds, memory + BYTES["process"], disk


class ScoringPrices(Prices):
    """Of jobs that only go forward."""

    def activations(self, model: str, regime: str) -> Price:
        """The reward model and, where it was trained here, its backbone read the same pairs."""
        if self.study.activations.stable is not None:
            self.assume("activations: as if statistics never stood still, so that all pairs are read")
        size, bases = self.amounts.size(model), 0 if self.study.given else 1
        seconds = self.machines.scoring_seconds(model, (1 + bases) * self.amounts.one_pass(model, regime))
        tokens = max(self.study.models[model].compute.inference_tokens, 2 * self.study.training.max_tokens)
        held = bases * 4 * tokens * size.layers * size.neurons  # the base's activations of a batch
        memory = (1 + bases) * BYTES["weights"] * size.parameters + held + BYTES["process"]
        return seconds, memory, BYTES["statistics_row"] * 2 * size.layers * size.neurons

    def set_activations(self, model: str, regime: str) -> Price:
        test, sets = self.amounts.volume(regime, "test"), len(observed_sets(self.study))
        seconds = self.machines.scoring_seconds(model, self.amounts.size(model).forward(test))
        return seconds, self.scoring_memory(model), BYTES["score_row"] * sets * sum(n * texts for n, _, texts in test)

    def passages(self, model: str, regime: str) -> Price:
        """A pass over the pairs drawn, and another for each neuron; what several sets hold is counted for each."""
        test, explore = self.amounts.volume(regime, "test"), self.study.explore
        share = min(1, explore.pairs / sum(n for n, *_ in test))
        neurons = explore.neurons * len(explored_sets(self.study, regime))
        seconds = self.machines.scoring_seconds(model, (1 + neurons) * share * self.amounts.size(model).forward(test))
        rows = BYTES["score_row"] * (1 + neurons) * share * sum(n for n, *_ in test)
        return seconds, self.scoring_memory(model), rows + BYTES["passage"] * 2 * explore.passages * neurons

    def running_rewards(self, model: str, regime: str) -> Price:
        """A pass over comparisons drawn from all that are judged."""
        judged = [part for name in self.study.benchmarks for part in self.amounts.evaluated(regime, name)]
        texts = sum(n * texts for n, _, texts in judged)
        share = min(1, self.study.explore.running / sum(n for n, *_ in judged))
        seconds = self.machines.scoring_seconds(model, share * self.amounts.size(model).forward(judged))
        return seconds, self.scoring_memory(model), BYTES["running_text"] * share * texts

    def evaluate(self, model: str, regime: str, benchmark: str) -> Price:
        passes, compared = len(ablated_sets(self.study, regime, benchmark)), self.amounts.evaluated(regime, benchmark)
        seconds = self.machines.scoring_seconds(model, *self.decided(model, compared, passes, passes))
        return seconds, self.scoring_memory(model), BYTES["score_row"] * self.amounts.score_rows(regime, benchmark)

    def ensemble(self, model: str, regime: str) -> Price:
        """Both its parts score everything."""
        scored = scored_on(self.study)
        compared = [self.decided(model, self.amounts.evaluated(regime, benchmark), 2, 2) for benchmark in scored]
        rows = sum(self.amounts.score_rows(regime, benchmark) for benchmark in scored)
        seconds = self.machines.scoring_seconds(model, *map(sum, zip(*compared, strict=True)))
        return seconds, self.scoring_memory(model), BYTES["score_row"] * rows

    def patch(self, model: str, regime: str, benchmark: str) -> Price:
        """A pass of each donor, and one of the mixed reward model for each of its sets; all three models are held."""
        size, donors = self.amounts.size(model), len(self.study.regimes[regime].mixes)
        rows, compared = donors * len(compared_sets(self.study, regime)), self.amounts.evaluated(regime, benchmark)
        # What is scored again is so row by row, each with a pass of its donor.
        seconds = self.machines.scoring_seconds(model, *self.decided(model, compared, donors + rows, 2 * rows))
        held = 4 * self.study.models[model].compute.inference_tokens * size.layers * size.neurons  # of a donor
        memory = self.scoring_memory(model) + donors * BYTES["weights"] * size.parameters + held
        return seconds, memory, BYTES["score_row"] * self.amounts.patched_rows(regime, benchmark)

    def decided(self, model: str, compared: Volume, passes: int, again: int) -> tuple[float, float]:
        """Operations of passes that decide comparisons, and those in float32 beside a study's bfloat16.

        again: passes over what is drawn, or close in bfloat16 (engine.decisions).
        """
        forward, n = self.amounts.size(model).forward(compared), sum(n for n, *_ in compared)
        if self.study.models[model].compute.inference_precision != "bfloat16":
            return passes * forward, 0
        close = KNOWN["close"]
        self.assume(f"bfloat16: of comparisons {SAMPLE} and {close:.1%} of all are scored in float32, too")
        if n <= SAMPLE:
            return 0, passes * forward
        return passes * forward, again * min(1, SAMPLE / n + close) * forward

    def scoring_memory(self, model: str) -> float:
        size = self.amounts.size(model)
        one_layer = 2 * BYTES["kept"] * self.study.models[model].compute.inference_tokens * size.width
        return float(BYTES["weights"] * size.parameters + one_layer + BYTES["process"])
