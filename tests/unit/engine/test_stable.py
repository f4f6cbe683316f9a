"""Statistics of as many pairs as it takes, held against plain ones of the same pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tiny_models import CONFIGS, VOCABULARY, WORDS, random_model

from rmtension.data.comparisons import PAIRS as COLUMNS
from rmtension.engine.activations import activation_statistics, packed_pairs, reward_model_statistics
from rmtension.engine.packing import Packed, pack
from rmtension.engine.stable import Standing, spans, stable_statistics
from rmtension.study.stages import Activations

CPU = torch.device("cpu")
MODEL, BASE = random_model("gpt2"), random_model("gpt2", seed=1)
rng = np.random.default_rng(0)
PAIRS = [pack(*([rng.integers(VOCABULARY, size=rng.integers(3, 12))] for _ in range(2))) for _ in range(150)]
READ = [PAIRS[i] for i in np.random.default_rng(4).permutation(150)]  # as seed 4 draws them


def oriented(pairs: list[Packed], scoring: str, percent: float) -> set[tuple[int, int]]:
    """By the largest of a list of scores."""
    found = activation_statistics(MODEL, BASE, pairs, 500, CPU).neurons
    column = {"magnitude": "mean", "change": "change_rms"}[scoring]
    both = found.group_by("layer", "neuron").agg(pl.col(column).mean()).rows()
    best = sorted(both, key=lambda row: (-row[2], row[0], row[1]))
    return {(layer, neuron) for layer, neuron, _ in best[: round(percent / 100 * len(best))]}


def jaccard(n: int, scoring: str, percent: float) -> float:
    """Of every other one of the first n pairs, and of the rest."""
    one, other = (oriented(READ[half:n:2], scoring, percent) for half in (0, 1))
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("scoring", ["magnitude", "change"])
def test_reading_ends_at_the_first_look_at_which_two_halves_agree(scoring: str) -> None:
    looks = [64, 80, 100, 125, 150]
    agree = [jaccard(n, scoring, 20) for n in looks]
    assert [span.stop for span in spans(150)] == looks and agree[0] < max(agree)
    for least in {*agree, 1e-9}:
        first = next(i for i, of in enumerate(agree) if of >= least)
        found = stable_statistics(Standing(least, scoring, 20, "mean"), 4, MODEL, BASE, PAIRS, 300, CPU)
        said = found.neurons.select("n_pairs", "of_pairs", "agreement").unique().row(0)
        assert said == (looks[first], 150, agree[first])
        plain = activation_statistics(MODEL, BASE, READ[: looks[first]], 300, CPU)
        assert_frame_equal(found.neurons.drop("n_pairs", "of_pairs", "agreement"), plain.neurons, rel_tol=1e-5)
        assert_frame_equal(found.heads, plain.heads, rel_tol=1e-5)


def test_where_halves_never_agree_all_is_read_and_said(caplog: pytest.LogCaptureFixture) -> None:
    found = stable_statistics(Standing(1.0, "magnitude", 20, "mean_abs"), 4, MODEL, None, PAIRS[:90], 300, CPU)
    assert found.neurons["n_pairs"].unique().to_list() == [90] and found.neurons["agreement"][0] < 1
    assert "all 90 pairs were read: their halves do not agree by 1" in caplog.text
    alone = stable_statistics(Standing(0.5, "magnitude", 20, "mean_abs"), 4, MODEL, None, PAIRS[:1], 300, CPU)
    assert alone.neurons["agreement"].null_count() == len(alone.neurons)


@pytest.mark.parametrize("family", ["gpt2"])
def test_pairs_are_read_in_an_order_drawn_by_the_seed(folder: Path, tmp_path: Path) -> None:
    texts = {side: [" ".join(rng.choice(WORDS, 9)) for _ in range(200)] for side in ("chosen", "rejected")}
    file, always = tmp_path / "pairs.parquet", Standing(1e-9, "magnitude", 20, "mean")
    pl.DataFrame(dict.fromkeys(COLUMNS, "x") | texts, COLUMNS).write_parquet(file)
    for settings in (Activations(), Activations(seed=1), Activations(max_pairs=90)):
        until = partial(stable_statistics, always, settings.seed)
        found = reward_model_statistics(folder, None, file, settings, 99, 300, CPU, until)
        packed = packed_pairs(folder, CONFIGS["gpt2"], file, settings, 99)
        order = np.random.default_rng(settings.seed).permutation(len(packed))
        plain = activation_statistics(MODEL, None, [packed[i] for i in order[:64]], 300, CPU)
        assert found.neurons["of_pairs"][0] == len(packed) == (settings.max_pairs or 200)
        assert_frame_equal(found.neurons.drop("n_pairs", "of_pairs", "agreement"), plain.neurons, rel_tol=1e-5)
