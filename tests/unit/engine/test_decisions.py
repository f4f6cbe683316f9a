"""Scores in bfloat16 decide as those in float32 do: of drawn rewards with known errors, and of every family."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny_models import WORDS, two_families

from rmtension.engine.decisions import SAMPLE, Rewards, decide
from rmtension.engine.evaluation import evaluate
from rmtension.engine.packing import Packed, pack
from rmtension.engine.patching import patch
from rmtension.neurons.ranking import NO_SETS

CPU = torch.device("cpu")


def drawn(generator: np.random.Generator, count: int) -> list[Packed]:
    """Comparisons of one to three chosen and rejected texts, each of one token: its place among all."""
    places = iter(range(6 * count))
    return [
        pack(*([np.array([next(places)]) for _ in range(generator.integers(1, 4))] for _ in range(2)))
        for _ in range(count)
    ]


def order(rewards: Sequence[float], comparisons: Sequence[Packed]) -> list[bool]:
    found, first = [], 0
    for packed in comparisons:
        of = rewards[first : first + len(packed.ends)]
        found += [c > r for c, r in product(of[: packed.n_chosen], of[packed.n_chosen :])]
        first += len(packed.ends)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_every_pair_is_in_the_order_of_float32(seed: int) -> None:
    generator = np.random.default_rng(seed)
    comparisons = drawn(generator, 3000)
    texts = {packed.tokens.tobytes(): i for i, packed in enumerate(comparisons)}
    ends = np.cumsum([0, *(len(packed.ends) for packed in comparisons)])
    truth = generator.normal(size=ends[-1]).astype(np.float32)
    truth[generator.permutation(ends[-1])[:300]] = 0.25  # ties, which stay ties
    rough = truth + generator.normal(size=ends[-1]).astype(np.float32) / 100
    asked: list[int] = []

    def exact(some: Sequence[Packed]) -> Rewards:
        which = [texts[packed.tokens.tobytes()] for packed in some]
        asked.extend(which)
        return np.concatenate([truth[ends[i] : ends[i + 1]] for i in which])

    assert order(rough, comparisons) != order(truth, comparisons)
    again = decide(rough, comparisons, exact)
    assert order(rough, comparisons) == order(truth, comparisons)
    assert sorted(asked) == np.flatnonzero(again).tolist()  # each once
    assert SAMPLE < len(asked) < len(comparisons) / 2
    kept = np.repeat(~again, np.diff(ends))
    assert (rough[~kept] == truth[~kept]).all() and (rough[kept] != truth[kept]).mean() > 0.99


@two_families
def test_a_study_in_bfloat16_decides_as_one_in_float32(folder: Path) -> None:
    generator = np.random.default_rng(0)

    def text() -> str:
        return " ".join(generator.choice(WORDS[1:], size=generator.integers(2, 12)))

    rows = pl.DataFrame(
        {"comparison_id": [f"c{i}" for i in range(120)], "task": "t", "orientation": "helpful"}
        | {"chosen": [[text()] for _ in range(120)], "rejected": [[text(), text()] for _ in range(120)]}
    )
    sets = pl.DataFrame({"ablation": "a", "unit": "neuron", "layer": [0, 1], "neuron": [3, 1]})

    def scored(kind: str) -> pl.DataFrame:
        return evaluate(folder, rows, sets, ["none", "a"], None, "", 200, CPU, precision=kind)

    def patched(kind: str) -> pl.DataFrame:
        return patch(folder, {"itself": folder}, rows, sets, ["a"], 200, kind, CPU)

    for found in (scored, patched):
        rough, whole = found("bfloat16"), found("float32")
        assert rough["correct"].equals(whole["correct"])
        assert set(rough["precision"]) == {"bfloat16", "float32"} and set(whole["precision"]) == {"float32"}
        for side in ("chosen_scores", "rejected_scores"):
            pairs = zip(rough["precision"], rough[side].to_numpy(), whole[side].to_numpy(), strict=True)
            errors = [(kind, np.abs(one - other).max()) for kind, one, other in pairs]
            assert max(error for kind, error in errors if kind == "float32") < 1e-5
            assert np.median([error for kind, error in errors if kind == "bfloat16"]) > 1e-5


@two_families
def test_what_is_no_more_than_the_sample_is_scored_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = pl.DataFrame({"comparison_id": ["c0", "c1"], "task": "t", "orientation": "helpful"} | {
        "chosen": [[WORDS[1]], [WORDS[2]]], "rejected": [[WORDS[3]], [WORDS[4]]]})  # fmt: skip
    with caplog.at_level(logging.INFO):
        found = evaluate(folder, rows, NO_SETS, ["none"], None, "", 200, CPU, precision="bfloat16")
    assert set(found["precision"]) == {"float32"}
    assert "in float32" not in caplog.text  # a second time
