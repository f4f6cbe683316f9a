"""Ranking and set algebra against plain Python."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from rmtension.naming import ablation_name
from rmtension.neurons import (
    NEURON,
    neuron_scores,
    oriented_set,
    oriented_sets,
    rank_neurons,
    seed_of,
    sets_to_frame,
    tension_sets,
)

# Few distinct values, so that ties abound.
values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=60)


def scores_frame(scores: list[float], neurons: int = 4) -> pl.DataFrame:
    index = np.arange(len(scores))
    return pl.DataFrame({"layer": index // neurons, "neuron": index % neurons, "s": scores})


@given(scores=values, percent=st.floats(0.5, 100))
def test_top_percent_against_sorting(scores: list[float], percent: float) -> None:
    frame = scores_frame(scores)
    ranked = rank_neurons(frame.sample(fraction=1, shuffle=True, seed=1), ["s"])
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: round(percent / 100 * len(scores))]
    assert oriented_set(ranked, "s", percent).rows() == sorted((i // 4, i % 4) for i in expected)
    assert sorted(ranked["rank"]) == list(range(1, len(scores) + 1))


subsets = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)))


def frame_of(neurons: set[tuple[int, int]]) -> pl.DataFrame:
    return pl.DataFrame(sorted(neurons), schema={"layer": pl.Int32, "neuron": pl.Int32}, orient="row")


@given(helpful=subsets, harmless=subsets)
def test_set_algebra_against_python_sets(helpful: set[tuple[int, int]], harmless: set[tuple[int, int]]) -> None:
    sets = tension_sets({"helpful": frame_of(helpful), "harmless": frame_of(harmless)})
    found = {name: set(frame.rows()) for name, frame in sets.items()}
    assert found == {
        "shared": helpful & harmless,
        "helpful-only": helpful - harmless,
        "harmless-only": harmless - helpful,
    }
    long = sets_to_frame(sets)
    assert {name: set(long.filter(ablation=name).select(NEURON).rows()) for name in sets} == found


def test_scores_are_plain_averages_of_both_responses() -> None:
    statistics = pl.DataFrame(
        {
            "layer": [0, 0, 0, 0],
            "neuron": [0, 0, 1, 1],
            "response": ["chosen", "rejected"] * 2,
            "n_tokens": [10, 30, 10, 30],
            "mean": [-1.0, -3.0, 0.5, 0.1],
            "mean_abs": [1.0, 3.0, 0.5, 0.1],
            "change_rms": [0.2, 0.4, 0.0, 0.1],
        }
    )
    scores = neuron_scores(statistics, "mean_abs", [0])
    assert scores["magnitude"].to_list() == [2.0, 0.3]
    np.testing.assert_allclose(scores["change"], [0.3, 0.05])
    # The signed mean ranks the strongly negative neuron last, the absolute one first.
    signed = neuron_scores(statistics, "mean", [0])
    assert rank_neurons(signed, ["magnitude"])["neuron"].to_list() == [1, 0]
    assert rank_neurons(scores, ["magnitude"])["neuron"].to_list() == [0, 1]
    assert scores["random"].to_list() == signed["random"].to_list()


def test_random_controls_differ_between_reward_models() -> None:
    seeds = [seed_of(0, *rm) for rm in (("m", "helpful", "0"), ("m", "harmless", "0"), ("m", "helpful", "1"))]
    assert len({tuple(seed) for seed in [*seeds, seed_of(1, "m", "helpful", "0")]}) == 4


def test_names() -> None:
    assert [ablation_name("change", p) for p in (2.0, 2.5, 10, 100)] == [
        "change-p2",
        "change-p2.5",
        "change-p10",
        "all",
    ]
    ranked = rank_neurons(scores_frame([1.0, 2.0, 3.0]).with_columns(t=pl.col("s") * -1), ["s", "t"])
    sets = oriented_sets(ranked, ["s", "t"], [34, 100])
    assert {name: len(frame) for name, frame in sets.items()} == {"s-p34": 1, "t-p34": 1, "all": 3}
