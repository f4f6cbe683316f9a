"""How much the jobs of a study compute on: the size of its backbones, and its pairs and comparisons."""

from __future__ import annotations

from functools import cache
from os.path import commonprefix
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
import torch
import yaml
from torch import nn
from transformers import AutoConfig, AutoModel

from rmtension.base.files import RESOURCES
from rmtension.data.benchmarks import read_benchmark
from rmtension.data.pairs import read_pairs
from rmtension.data.tasks import wanted_tasks
from rmtension.engine.architectures import first_layers, layer_sizes
from rmtension.engine.backbones import made_config
from rmtension.engine.reward_model import NO_CODE, opening
from rmtension.study.benchmarks import AllTests, OwnBenchmark
from rmtension.study.data import OwnPairs, SyntheticPairs
from rmtension.study.measured import ablated_sets, compared_sets
from rmtension.study.models import GgufModel, MadeModel, Shortened
from rmtension.study.section import Located, Section
from rmtension.study.sources import regime_data, regime_sources
from rmtension.study.study import VALIDATION, Study

KNOWN: dict[str, Any] = yaml.safe_load((RESOURCES / "plan.yaml").read_text("utf-8"))  # what plans reckon with
BYTES, RULES = KNOWN["bytes"], KNOWN["rules"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Volume = list[tuple[float, float, int]]  # of comparisons: how many, and mean tokens and texts of one


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


def at_hand(part: Section, study: Study) -> bool:
    """Whether this machine has what a part of the study reads; the rest is still on the hub."""
    return not isinstance(part, Located) or not part.hub or part.checksums(study.data_root, study.hub_cache).exists()


def configuration(source: Any, study: Study) -> Any:
    """A backbone's configuration, without any network."""
    if isinstance(source, MadeModel):
        return made_config(source, source.vocabulary, padding=None, end=None)
    if isinstance(source, GgufModel):
        file = Path(study.data_root) / source.path
        with opening(file, "content"):
            return AutoConfig.from_pretrained(file.parent, gguf_file=file.name, **NO_CODE)
    if at_hand(source, study):
        folder = source.cached(study.hub_cache).local(study.data_root)
        with opening(folder, "config.json"):
            return AutoConfig.from_pretrained(folder, **NO_CODE)
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
    return Size(parameters, parameters - embeddings, config.get_text_config().hidden_size, layers, neurons, heads)


class Amounts:
    """Of one study. What cannot be counted here is an UnknownError; what is taken on trust is assumed aloud."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.assumptions: dict[str, None] = {}  # in the order in which they are made
        self.size = cache(self.find_size)
        self.pairs, self.read = cache(self.count_pairs), cache(self.count_read)
        self.comparisons = cache(self.count_comparisons)
        self.pair_tokens, self.comparison_tokens = cache(self.count_pair_tokens), cache(self.count_comparison_tokens)

    def assume(self, text: str) -> None:
        self.assumptions[text] = None

    def find_size(self, model: str) -> Size:
        source = self.study.models[model].source
        config = configuration(source, self.study)
        kept = source.layers if isinstance(source, Shortened) else None
        size = size_of(first_layers(config, kept) if kept else config)
        self.assume(f"{model}: {size.parameters:,} parameters, {size.computing:,} of them outside embeddings")
        return size

    def tokens(self, kind: str) -> float:
        if kind not in KNOWN["tokens"]:
            raise UnknownError(f"mean tokens of a comparison of {kind}: not in resources/plan.yaml")
        self.assume(f"{kind}: {KNOWN['tokens'][kind]} tokens a comparison, whatever the tokenizer")
        return float(KNOWN["tokens"][kind])

    def tokens_of_own(self, name: str, comparisons: pl.DataFrame) -> float:
        """Of a user's own file, by its characters; what all texts of a comparison begin with counts once."""
        sides = comparisons.select(pl.concat_list("chosen", "rejected")).to_series()
        shared = sum((len(texts) - 1) * len(commonprefix(texts)) for texts in sides.to_list())  # noqa: RUF071  no paths
        total = sides.explode().str.len_chars().sum() - shared
        tokens = float(total / KNOWN["characters"] / len(sides))
        self.assume(f"{name}: {tokens:,.0f} tokens a comparison, of {KNOWN['characters']} characters each")
        return tokens

    def count_pair_tokens(self, regime: str, name: str, split: Literal["train", "test"]) -> float:
        """Mean tokens of a source's pair."""
        source = self.study.sources[name]
        if isinstance(source, OwnPairs):
            return self.tokens_of_own(f"{name}, {split}", read_pairs(regime_data(self.study, regime), name, split)[0])
        return self.tokens(getattr(source, "folder", source.kind))

    def count_comparison_tokens(self, name: str) -> float:
        """Mean tokens of a benchmark's comparison."""
        benchmark = self.study.benchmarks[name]
        if isinstance(benchmark, OwnBenchmark):
            return self.tokens_of_own(name, read_benchmark(name, benchmark, self.study.data_root))
        return self.tokens(benchmark.kind)

    def count_pairs(self, regime: str, name: str, split: Literal["train", "test"]) -> int:
        source: Any = self.study.sources[name]
        if isinstance(source, SyntheticPairs):
            return int(getattr(source, split))
        if at_hand(source, self.study):
            pairs, _ = read_pairs(regime_data(self.study, regime), name, split)
            return len(pairs)
        known = KNOWN["pairs"].get(source.hub, {}).get(source.folder)
        if known is None:
            raise UnknownError(f"pairs of {source.hub}, {source.folder}: not in resources/plan.yaml")
        self.assume(f"{name}, {split}: {known[split]:,} pairs upstream; none left out as identical or over-length")
        most = getattr(source, f"max_{split}")
        return int(known[split] if most is None else min(most, known[split]))

    def count_read(self, regime: str, name: str) -> tuple[int, float]:
        """Pairs of a source's train split that `training.max_tokens` leaves, and mean tokens of one.

        Where the pairs are at hand, by their characters; otherwise all are taken to be short enough.
        """
        source, most = self.study.sources[name], self.study.training.max_tokens
        if at_hand(source, self.study) and not isinstance(source, SyntheticPairs):
            pairs, _ = read_pairs(regime_data(self.study, regime), name, "train")
            longest = pl.max_horizontal(pl.col("chosen", "rejected").str.len_chars())
            short = pairs.filter(longest <= most * KNOWN["characters"])
            if 0 < len(short) < len(pairs):
                self.assume(f"{name}: {len(short):,} of {len(pairs):,} train pairs have at most {most:,} tokens")
                return len(short), self.tokens_of_own(f"{name}, of these", short)
        return self.pairs(regime, name, "train"), self.pair_tokens(regime, name, "train")

    def volume(self, regime: str, split: Split) -> Volume:
        """Pairs of one split of a regime; validation is held out from train."""
        fraction = self.study.validation.fraction
        if split == "test":
            names = regime_sources(self.study, regime, split)
            return [(self.pairs(regime, name, split), self.pair_tokens(regime, name, split), 2) for name in names]
        share = 1 - fraction if split == "train" else fraction
        read = [self.read(regime, name) for name in regime_sources(self.study, regime, "train")]
        return [(share * n, tokens, 2) for n, tokens in read]

    def one_pass(self, model: str, regime: str) -> float:
        """Operations of a forward pass over the train pairs that `activations` draws."""
        train = self.volume(regime, "train")
        n = sum(n for n, *_ in train)
        share = min(1, (self.study.activations.max_pairs or n) / n)
        return share * self.size(model).forward(train)

    def all_tests(self) -> Volume:
        """Pairs of the test splits of all single-objective regimes."""
        return [part for regime in self.study.single_regimes() for part in self.volume(regime, "test")]

    def count_comparisons(self, name: str) -> int:
        benchmark: Any = self.study.benchmarks[name]
        if isinstance(benchmark, AllTests):
            return sum(int(n) for n, *_ in self.all_tests())
        if at_hand(benchmark, self.study):
            return len(read_benchmark(name, benchmark.cached(self.study.hub_cache), self.study.data_root))
        known = wanted_tasks(name, benchmark)["n_prompts"]
        n = int(known.clip(upper_bound=benchmark.max_per_task).sum())
        self.assume(f"{name}: {n:,} comparisons by the counts in resources/")
        return n

    def evaluated(self, regime: str, benchmark: str) -> Volume:
        if benchmark == VALIDATION:
            return self.volume(regime, "validation")
        match self.study.benchmarks[benchmark].kind:
            case "regime-test":
                return self.volume(regime, "test")
            case "all-tests":
                return self.all_tests()
            case kind:
                texts = KNOWN["texts"].get(kind, 2)
                return [(self.comparisons(benchmark), self.comparison_tokens(benchmark), texts)]

    def score_rows(self, regime: str, benchmark: str) -> float:
        n = sum(n for n, *_ in self.evaluated(regime, benchmark))
        return n * len(ablated_sets(self.study, regime, benchmark))

    def patched_rows(self, regime: str, benchmark: str) -> float:
        sets = len(compared_sets(self.study, regime)) * len(self.study.regimes[regime].mixes)
        return sets * sum(n for n, *_ in self.evaluated(regime, benchmark))
