"""What a study will take: jobs, hours, memory and disk of each rule, and on what assumptions. Nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
import torch
import yaml
from torch import nn
from transformers import AutoConfig, AutoModel

from rmtension.base.errors import UserError
from rmtension.base.files import RESOURCES
from rmtension.data.readers import read_benchmark, read_pairs
from rmtension.data.tasks import wanted_tasks
from rmtension.engine.architectures import layer_sizes
from rmtension.study.data import SyntheticPairs
from rmtension.study.models import Compute, GgufModel, MadeModel
from rmtension.study.naming import ranks_heads
from rmtension.study.places import fetched
from rmtension.study.section import Located, Section, nearest
from rmtension.study.study import Study

KNOWN: dict[str, Any] = yaml.safe_load((RESOURCES / "plan.yaml").read_text("utf-8"))
BYTES, RULES = KNOWN["bytes"], KNOWN["rules"]
SCHEMA = {
    "rule": pl.String, "jobs": pl.Int64, "gpu_hours": pl.Float64, "cpu_hours": pl.Float64,
    "longest_hours": pl.Float64, "memory_gb": pl.Float64, "disk_gb": pl.Float64, "unpriced": pl.Int64,
}  # fmt: skip
GENERAL = [
    "operations: 2 a token and parameter outside embeddings, and attention, for a forward pass; 3 such for training",
    "memory of a job on a GPU is the GPU's, else the machine's; checkpoints, deleted after training, take another"
    f" {BYTES['training']} bytes a parameter on disk for every training that runs",
    "rules without a model: seconds as measured on the small study of the tests; tables, by the size of what they read",
    "not counted: downloads, the hub's cache, waiting in a queue, and whatever runs twice",
]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Volume = list[tuple[float, float, int]]  # of comparisons: how many, and mean tokens and texts of one
Price = tuple[float, float, float]  # of one job: seconds, bytes of memory, bytes of files


class UnknownError(Exception):
    """Why a part of a study cannot be priced."""


class Size(NamedTuple):
    """What a backbone's cost depends on."""

    parameters: int
    computing: int  # parameters outside embeddings: a reward model has no output vocabulary
    width: int
    layers: int
    neurons: int  # of a layer
    heads: int

    def forward(self, volume: Volume) -> float:
        """Operations of a forward pass: 2 for each computing parameter and token, and attention to half the tokens."""
        each = 2 * self.computing, 2 * self.layers * self.width
        return sum(n * tokens * (each[0] + each[1] * tokens) for n, tokens, _ in volume)


class Plan(NamedTuple):
    rules: pl.DataFrame  # SCHEMA; longest_hours of one job, memory_gb of one job at its peak, unpriced: jobs
    total: pl.DataFrame  # the same, one row
    assumptions: list[str]
    problems: list[str]  # what cannot be priced, and what does not fit


def at_hand(part: Section, study: Study) -> bool:
    """Whether this machine has what a part of the study reads; the rest is still on the hub."""
    return not isinstance(part, Located) or not part.hub or part.checksums(study.data_root, study.hub_cache).exists()


def configuration(source: Any, study: Study) -> Any:
    """A backbone's configuration, without any network."""
    if isinstance(source, MadeModel):
        neurons = {"n_inner" if source.family == "gpt2" else "intermediate_size": source.neurons}
        return AutoConfig.for_model(
            source.family, hidden_size=source.width, num_hidden_layers=source.layers, vocab_size=source.vocabulary,
            num_attention_heads=source.heads, max_position_embeddings=512, bos_token_id=None, eos_token_id=None,
            **neurons,
        )  # fmt: skip
    if isinstance(source, GgufModel):
        file = Path(study.data_root) / source.path
        return AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    if at_hand(source, study):
        return AutoConfig.from_pretrained(source.cached(study.hub_cache).local(study.data_root))
    if source.hub not in KNOWN["configurations"]:
        raise UnknownError(f"size of {source.hub}: neither in resources/plan.yaml nor in the cache of the hub")
    return AutoConfig.for_model(**KNOWN["configurations"][source.hub])


def size_of(config: Any) -> Size:
    """Counted on a model without memory, so for any family that transformers knows."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    parameters = sum(p.numel() for p in model.parameters())
    layers, neurons, heads = layer_sizes(config)
    return Size(parameters, parameters - embeddings, config.hidden_size, layers, neurons, heads)


class Planner:
    """Prices the jobs of one study. Methods named after a rule give the price of one of its jobs."""

    def __init__(self, study: Study, device: str | None, utilisation: float | None) -> None:
        if device is not None and device not in KNOWN["devices"]:
            raise UserError(f"--device: no device '{device}'; {nearest(device, KNOWN['devices'])}")
        self.study, self.device, self.utilisation = study, device, utilisation
        self.assumptions: dict[str, None] = {}  # in the order in which they are made
        self.problems: dict[str, None] = {}
        self.size = cache(self.find_size)
        self.pairs = cache(self.count_pairs)
        self.comparisons = cache(self.count_comparisons)

    def assume(self, text: str) -> None:
        self.assumptions[text] = None

    # --- quantities -------------------------------------------------------------------------------------------

    def find_size(self, model: str) -> Size:
        size = size_of(configuration(self.study.models[model].source, self.study))
        self.assume(f"{model}: {size.parameters:,} parameters, {size.computing:,} of them outside embeddings")
        return size

    def tokens(self, kind: str) -> float:
        if kind not in KNOWN["tokens"]:
            raise UnknownError(f"mean tokens of a comparison of {kind}: not in resources/plan.yaml")
        self.assume(f"{kind}: {KNOWN['tokens'][kind]} tokens a comparison, whatever the tokenizer")
        return float(KNOWN["tokens"][kind])

    def count_pairs(self, regime: str, name: str, split: Literal["train", "test"]) -> int:
        source: Any = self.study.sources[name]
        if isinstance(source, SyntheticPairs):
            return int(getattr(source, split))
        if at_hand(source, self.study):
            pairs, _ = read_pairs(self.study.regime_data(regime), name, split)
            return len(pairs)
        known = KNOWN["pairs"].get(source.hub, {}).get(source.folder)
        if known is None:
            raise UnknownError(f"pairs of {source.hub}, {source.folder}: not in resources/plan.yaml")
        self.assume(f"{name}, {split}: {known[split]:,} pairs upstream; none left out as identical or over-length")
        most = getattr(source, f"max_{split}")
        return int(known[split] if most is None else min(most, known[split]))

    def volume(self, regime: str, split: Split) -> Volume:
        """Pairs of one split of a regime; validation is held out from train."""
        fraction = self.study.validation.fraction
        share = {"train": 1 - fraction, "validation": fraction, "test": 1}[split]
        origin: Literal["train", "test"] = "test" if split == "test" else "train"
        names = self.study.regime_sources(regime, origin)
        kinds = {name: getattr(self.study.sources[name], "folder", self.study.sources[name].kind) for name in names}
        return [(share * self.pairs(regime, name, origin), self.tokens(kinds[name]), 2) for name in names]

    def count_comparisons(self, name: str) -> int:
        benchmark: Any = self.study.benchmarks[name]
        if at_hand(benchmark, self.study):
            return len(read_benchmark(name, benchmark.cached(self.study.hub_cache), self.study.data_root))
        known = wanted_tasks(name, benchmark)["n_prompts"]
        n = int(known.clip(upper_bound=benchmark.max_per_task).sum())
        self.assume(f"{name}: {n:,} comparisons by the counts in resources/")
        return n

    def evaluated(self, regime: str, benchmark: str) -> Volume:
        kind = self.study.benchmarks[benchmark].kind
        return self.volume(regime, "test") if kind == "regime-test" else [
            (self.comparisons(benchmark), self.tokens(kind), KNOWN["texts"].get(kind, 2))
        ]  # fmt: skip

    def score_rows(self, regime: str, benchmark: str) -> float:
        n = sum(n for n, *_ in self.evaluated(regime, benchmark))
        return n * len(self.study.ablations(regime, benchmark))

    # --- devices ----------------------------------------------------------------------------------------------

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
        threads = self.study.models[model].compute.threads
        cores = threads / device["cores"] if "cores" in device else 1
        rate = device["tflops"][precision] * 1e12 * device["utilisation"][work] * cores
        return float(device["start"] + operations / rate)

    def scoring_seconds(self, model: str, operations: float) -> float:
        """Of a job without gradients."""
        precision = self.study.models[model].compute.inference_precision
        return self.seconds(model, self.device_of(model), "scoring", precision, operations)

    # --- the price of one job ---------------------------------------------------------------------------------

    def without_model(self, rule: str) -> Price:
        return RULES[rule]["seconds"], RULES[rule]["memory_gb"] * 1e9, 0

    def tables(self) -> Price:
        """By the files that they read of all reward models."""
        study = self.study
        rows = len(study.models) * sum(self.score_rows(*place) for place in product(study.regimes, study.benchmarks))
        rankings = len(study.regimes) * sum(self.rankings(model, "neurons")[2] for model in study.models)
        read = {"scores": len(study.seeds) * BYTES["score_row"] * rows, "neurons": len(study.seeds) * rankings}
        seconds, memory, _ = self.without_model("tables")
        self.assume("tables: " + " and ".join(f"{size / 1e6:,.0f} MB of {kind}" for kind, size in read.items()))
        for kind, size in read.items():
            seconds += KNOWN["tables"][kind]["seconds"] * size
            memory += KNOWN["tables"][kind]["memory"] * size
        return seconds, memory, 0

    def data(self, regime: str) -> Price:
        n = sum(n for split in SPLITS for n, *_ in self.volume(regime, split))
        return *self.without_model("data")[:2], BYTES["comparison"] * n

    def benchmark_comparisons(self, benchmark: str) -> Price:
        return *self.without_model("benchmark_comparisons")[:2], BYTES["comparison"] * self.comparisons(benchmark)

    def backbone(self, model: str) -> Price:
        settings, seconds, disk = self.study.models[model], RULES["backbone"]["seconds"], 0.0
        if not isinstance(settings.source, Located):  # those are only linked
            disk = BYTES["weights"] * self.size(model).parameters
        if isinstance(settings.source, MadeModel):
            texts = settings.source.pretraining.texts * settings.source.pretraining.epochs
            operations = 3 * self.size(model).forward([(texts, self.tokens("synthetic"), 1)])
            seconds += self.seconds(model, KNOWN["devices"]["cpu"], "training", "float32", operations)
        return seconds, settings.compute.mem_mb * 1e6, disk

    def train(self, model: str, regime: str) -> Price:
        settings, size, device = self.study.training, self.size(model), self.device_of(model)
        epochs, on_gpu = self.study.regimes[regime].epochs, "cores" not in device
        train, held = self.volume(regime, "train"), self.volume(regime, settings.select_on)
        steps = epochs * math.ceil(sum(n for n, *_ in train) / settings.pairs_per_step)
        looks = math.ceil(steps / settings.evaluation_interval)
        operations = 3 * epochs * size.forward(train) + looks * size.forward(held)
        self.assume(f"regime {regime}: {steps:,} steps, and {looks:,} looks at {sum(n for n, *_ in held):,.0f} pairs")
        in_float32 = settings.precision == "float32" or not on_gpu
        compute, processes = self.study.models[model].compute, self.processes("train", model)
        if processes > 1:
            self.assume(f"{model}: {processes} GPUs train {processes} times as fast as one")
        precision = "float32" if in_float32 else "bfloat16"
        seconds = self.seconds(model, device, "training", precision, operations / processes)
        tokens = max(compute.training_tokens, 2 * settings.max_tokens)
        memory = size.parameters * (BYTES["training"] + (0 if on_gpu else BYTES["best_copy"]))
        memory /= processes if compute.sharded else 1
        memory += BYTES["kept"] * (2 if in_float32 else 1) * tokens * size.layers * size.width
        return seconds, memory + BYTES["process"], BYTES["weights"] * size.parameters

    def activations(self, model: str, regime: str) -> Price:
        size, train = self.size(model), self.volume(regime, "train")
        n = sum(n for n, *_ in train)
        share = min(1, (self.study.activations.max_pairs or n) / n)
        seconds = self.scoring_seconds(model, 2 * share * size.forward(train))
        tokens = max(self.study.models[model].compute.inference_tokens, 2 * self.study.training.max_tokens)
        held = 4 * tokens * size.layers * size.neurons  # the base's activations of a batch
        memory = 2 * BYTES["weights"] * size.parameters + held + BYTES["process"]
        return seconds, memory, BYTES["statistics_row"] * 2 * size.layers * size.neurons

    def rankings(self, model: str, rule: str) -> Price:
        """One of the rules that rank neurons and choose sets of them."""
        size, ablation = self.size(model), self.study.ablation
        ranked = size.layers * size.neurons * sum(not ranks_heads(s) for s in self.study.neurons.scorings)
        percents = {"select_sets": [ablation.percent], "select": [ablation.percent, *ablation.sweep]}
        if rule == "neurons":
            disk = BYTES["ranking_row"] * ranked
        else:
            disk = BYTES["set_row"] * ranked * sum(percents[rule]) / 100
        return *self.without_model(rule)[:2], disk

    def evaluate(self, model: str, regime: str, benchmark: str) -> Price:
        size, passes = self.size(model), len(self.study.ablations(regime, benchmark))
        operations = passes * size.forward(self.evaluated(regime, benchmark))
        seconds = self.scoring_seconds(model, operations)
        one_layer = 2 * BYTES["kept"] * self.study.models[model].compute.inference_tokens * size.width
        memory = BYTES["weights"] * size.parameters + one_layer + BYTES["process"]
        return seconds, memory, BYTES["score_row"] * self.score_rows(regime, benchmark)

    # --- all jobs ---------------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[tuple[str, int, str | None, Callable[[], Price]]]:
        """rule, number of jobs alike, the model that they run on its device, and what prices one of them."""
        study = self.study
        missing = {file for file in fetched(study).values() if not file.exists()}
        if missing:
            yield "fetch", len(missing), None, partial(self.without_model, "fetch")
        for regime in study.regimes:
            yield "data", 1, None, partial(self.data, regime)
        for benchmark, settings in study.benchmarks.items():
            if settings.kind != "regime-test":
                yield "benchmark_comparisons", 1, None, partial(self.benchmark_comparisons, benchmark)
        for model in study.models:
            yield "backbone", 1, None, partial(self.backbone, model)
        for model, regime in product(study.models, study.regimes):
            seeds, adopted = len(study.seeds), len(study.models[model].trained.get(regime, {}))
            if adopted:
                yield "adopt", adopted, None, partial(self.without_model, "adopt")
            if seeds > adopted:
                yield "train", seeds - adopted, model, partial(self.train, model, regime)
            yield "activations", seeds, model, partial(self.activations, model, regime)
            for rule in ("neurons", "select_sets", "select"):
                yield rule, seeds, None, partial(self.rankings, model, rule)
            for benchmark in study.benchmarks:
                yield "evaluate", seeds, model, partial(self.evaluate, model, regime, benchmark)
        for rule in ("cards", "tables", "claims", "figures", "report_page"):
            yield rule, 1, None, self.tables if rule == "tables" else partial(self.without_model, rule)

    def priced(self) -> Iterator[dict[str, Any]]:
        for rule, jobs, model, price in self.jobs():
            row = {"rule": rule, "jobs": jobs, "gpu_hours": 0.0, "cpu_hours": 0.0}
            try:
                seconds, memory, disk = price()
            except UnknownError as reason:
                self.problems[str(reason)] = None
                yield row | {"unpriced": jobs}
                continue
            compute = self.study.models[model].compute if model else Compute()
            device = self.device_of(model) if model else KNOWN["devices"]["cpu"]
            on_gpu = "cores" not in device
            if on_gpu and memory > device["memory_gb"] * 1e9:
                needs = f"{memory / 1e9:.0f} GB of memory, a {device['name']} has {device['memory_gb']}"
                self.problems[f"{rule} of {model} does not fit: {needs}"] = None
            held = self.processes(rule, model) if on_gpu and model else compute.threads
            row["gpu_hours" if on_gpu else "cpu_hours"] = jobs * held * seconds / 3600
            yield row | {"longest_hours": seconds / 3600, "memory_gb": memory / 1e9, "disk_gb": jobs * disk / 1e9}


def make_plan(study: Study, device: str | None = None, utilisation: float | None = None) -> Plan:
    """Price every job of a study. Sums leave out what could not be priced, which is named."""
    planner = Planner(study, device, utilisation)
    amounts, peaks = ["jobs", "gpu_hours", "cpu_hours", "disk_gb", "unpriced"], ["longest_hours", "memory_gb"]
    rows = pl.from_dicts(list(planner.priced()), schema=SCHEMA)
    rules = rows.group_by("rule", maintain_order=True).agg(pl.col(amounts).sum(), pl.col(peaks).max())
    total = rows.select(pl.lit("total").alias("rule"), pl.col(amounts).sum(), pl.col(peaks).max())
    return Plan(rules.select(*SCHEMA), total.select(*SCHEMA), [*planner.assumptions, *GENERAL], [*planner.problems])
