"""Backbones, reward models and comparisons that the benchmarks are run on. Made once, then taken from the cache."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.harness import ROOT
from rmtension.base.errors import UserError
from rmtension.base.files import replacing
from rmtension.data.benchmarks import read_benchmark
from rmtension.data.comparisons import as_comparisons, draw
from rmtension.data.pairs import read_pairs
from rmtension.engine.architectures import layer_sizes, longest_text
from rmtension.engine.backbones import convert_gguf, save
from rmtension.engine.packing import Packed
from rmtension.engine.reward_model import (
    load_tokenizer,
    new_reward_model,
    pack_comparisons,
    save_reward_model,
    tokenise,
)
from rmtension.running.amounts import KNOWN, size_of
from rmtension.study.benchmarks import PublishedBenchmark
from rmtension.study.data import HHPairs, RegimeData, Validation

DATA, CACHE = ROOT / "data", ROOT / "benchmarks" / "cache"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMALL = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 128, "tie_word_embeddings": True}  # fmt: skip
# Configurations of random backbones, of the shape of known ones.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": SMALL,
    "tiny-gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4},
    "gpt2-sized": KNOWN["configurations"]["openai-community/gpt2"],
    "135m-shaped": KNOWN["configurations"]["HuggingFaceTB/SmolLM2-135M"],
    "360m-shaped": KNOWN["configurations"]["HuggingFaceTB/SmolLM2-360M"],
    "1.7b-shaped": KNOWN["configurations"]["HuggingFaceTB/SmolLM2-1.7B"],
}
NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
MAX_TOKENS = 1024
ROLES = {"Human": "user", "Assistant": "assistant"}


def local(place: str) -> Path:
    path = DATA / place
    if not path.exists():
        raise UserError(f'data/{place}: not there; docs/data.md, "Files of the offline study", says where to get it')
    return path


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    if not folder.exists():
        with replacing(folder) as temporary:
            make(temporary)
    return folder


# --- models ---------------------------------------------------------------------------------------------------


@cache
def smollm2_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(local(GGUF).parent, gguf_file=GGUF)


def shape(name: str) -> Any:
    """Configuration of a random backbone; no dropout, as in the study."""
    settings = SHAPES[name] | (NO_DROPOUT if SHAPES[name]["model_type"] == "gpt2" else {})
    return AutoConfig.for_model(**settings)


def backbone(name: str) -> Path:
    """A backbone as a folder: SmolLM2-135M, or random weights; all have the tokenizer of SmolLM2."""
    if name != "smollm2-135m" and name not in SHAPES:
        raise UserError(f"--backbone: no backbone '{name}'; known: smollm2-135m, {', '.join(SHAPES)}")

    def make(folder: Path) -> None:
        if name == "smollm2-135m":
            convert_gguf(local(GGUF), folder)
            return
        tokenizer, config = smollm2_tokenizer(), shape(name)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        torch.manual_seed(0)
        save(AutoModelForCausalLM.from_config(config), tokenizer, folder)

    return made_once(CACHE / "backbones" / name, make)


def reward_model(name: str) -> Path:
    """A backbone, its weights moved a little as by training, under a head that tells texts apart."""

    def make(folder: Path) -> None:
        model = new_reward_model(backbone(name), seed=0, head_deviation=0.05)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.base_model.parameters():
                if parameter.ndim > 1:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(noise, alpha=0.02 * parameter.std().item())
        save_reward_model(model, load_tokenizer(backbone(name)), folder)

    return made_once(CACHE / "reward-models" / name, make)


# --- comparisons ----------------------------------------------------------------------------------------------


def messages(dialogue: str) -> list[dict[str, str]]:
    """The turns of a dialogue, as other tools take it."""
    turns = re.split(r"\n\n(Human|Assistant): ", dialogue)[1:]
    return [{"role": ROLES[role], "content": text} for role, text in zip(turns[::2], turns[1::2], strict=True)]


def is_rendered(dialogue: str) -> bool:
    """Whether the chat template makes the very text of its messages: where a reply is empty it does not."""
    words = {role: name for name, role in ROLES.items()}
    return "".join(f"\n\n{words[turn['role']]}: {turn['content']}" for turn in messages(dialogue)) == dialogue


def pairs(
    folder: Path, source: str, split: Literal["train", "test"], n: int, seed: int, longest: int = MAX_TOKENS
) -> pl.DataFrame:
    """PAIRS of HH-RLHF that every tool can take: both sides within the tokens that it and the study allow."""
    local(f"hh-rlhf-offline/{source}")
    settings = HHPairs(kind="hh-rlhf", path="hh-rlhf-offline", folder=source)
    data = RegimeData(
        sources={source: settings}, orientations={source: "harmless"}, train=[source], test=[source],
        validation=Validation(), data_root=str(DATA),
    )  # fmt: skip
    frame, _ = read_pairs(data, source, split)
    drawn = draw(frame, 4 * n + 50, seed)  # some of them will not do
    texts = drawn["chosen"].to_list(), drawn["rejected"].to_list()
    rendered = np.array([is_rendered(one) and is_rendered(other) for one, other in zip(*texts, strict=True)])
    return enough(drawn.filter(rendered & fitting(folder, as_comparisons(drawn), longest)), n, f"{source}, {split}")


def fitting(folder: Path, comparisons: pl.DataFrame, longest: int = MAX_TOKENS) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which comparisons have no text without a token, or longer than the model, or any study, allows."""
    tokenizer = load_tokenizer(folder)
    longest = min(longest, longest_text(AutoConfig.from_pretrained(folder)))
    sides = comparisons["chosen"].to_list(), comparisons["rejected"].to_list()
    kept, _ = pack_comparisons(tokenizer, *sides, longest)
    return np.isin(np.arange(len(comparisons)), kept)


def enough(frame: pl.DataFrame, n: int, name: str) -> pl.DataFrame:
    if len(frame) < n:
        raise UserError(f"{name}: {len(frame)} comparisons of use, {n} are asked for")
    return frame.head(n)


def rm_bench(folder: Path, n: int, seed: int) -> pl.DataFrame:
    """COMPARISONS of RM-Bench, six candidates each."""
    local("rm-bench/train.parquet")
    settings = PublishedBenchmark(kind="rm-bench", path="rm-bench/train.parquet")
    frame = read_benchmark("rm-bench", settings, str(DATA))
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    return enough(shuffled.filter(fitting(folder, shuffled)), n, "rm-bench")


def reward_bench(folder: Path, n: int, seed: int) -> pl.DataFrame:
    """Rows of RewardBench's filtered set as published: prompt, chosen, rejected, subset."""
    frame = pl.read_parquet(local("reward-bench/filtered.parquet"))
    frame = frame.select("prompt", "chosen", "rejected", "subset").sample(fraction=1, shuffle=True, seed=seed)
    texts = [pl.concat_list(pl.concat_str(pl.lit("\n\nHuman: "), "prompt", pl.lit("\n\nAssistant: "), side)).alias(side)
             for side in ("chosen", "rejected")]  # fmt: skip
    return enough(frame.filter(fitting(folder, frame.select(texts))), n, "reward-bench")


def random_sets(config: Any, n: int) -> pl.DataFrame:
    """`n` sets to be ablated, of 2, 4, … 30 % of the neurons in turn: ablation, unit, layer, neuron."""
    layers, neurons, _ = layer_sizes(config)
    frames = []
    for i in range(n):
        share = (2 + 2 * (i % 15)) / 100
        drawn = np.random.default_rng(i).permutation(layers * neurons)[: round(share * layers * neurons)]
        layer, neuron = np.divmod(np.sort(drawn), neurons)
        names = {"ablation": f"random-{i}", "unit": "neuron"}
        frames.append(pl.DataFrame(names | {"layer": layer.astype(np.int32), "neuron": neuron.astype(np.int32)}))
    return pl.concat(frames)


# --- what is counted ------------------------------------------------------------------------------------------


def text_lengths(folder: Path, comparisons: pl.DataFrame) -> list[list[int]]:
    """Tokens of every text of every comparison, each by itself and without padding."""
    texts = comparisons.select(pl.concat_list("chosen", "rejected")).to_series().to_list()
    tokenizer = load_tokenizer(folder)
    return [[len(ids) for ids in tokenise(tokenizer, candidates)] for candidates in texts]


def text_tokens(folder: Path, comparisons: pl.DataFrame) -> int:
    """Tokens of all texts: the work as the user sees it."""
    return sum(map(sum, text_lengths(folder, comparisons)))


def packed(tokenizer: Any, comparisons: pl.DataFrame) -> list[Packed]:
    sides = comparisons["chosen"].to_list(), comparisons["rejected"].to_list()
    return pack_comparisons(tokenizer, *sides, MAX_TOKENS)[1]


def useful_operations(config: Any, comparisons: Sequence[Packed]) -> float:
    """Floating-point operations of one forward pass, the shared prefix once, padding and what is masked left out.

    Linear layers: 2 a weight and token. Attention: 2 a unit of width for each token that a token sees, for its scores,
    and as many for the sum of values.
    """
    size = size_of(config)
    tokens = sum(len(one) for one in comparisons)
    seen = sum(int((one.positions + 1).sum()) for one in comparisons)
    return 2.0 * size.computing * tokens + 4.0 * size.layers * size.width * seen


def write_json(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
