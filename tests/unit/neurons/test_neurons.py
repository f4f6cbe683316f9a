"""Ranking, set algebra and controls against plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmtension.base.errors import UserError
from rmtension.neurons.ranking import (
    ATTRIBUTIONS,
    SCORES,
    UNIT,
    frozen_set,
    like,
    loudness_cells,
    matched,
    oriented_set,
    oriented_sets,
    ranking,
    rankings,
    seed_of,
    sets_to_frame,
    tension_sets,
    thirds_sets,
    whole_sets,
)
from rmtension.study.naming import ablation_name, tension_sets_index, thirds_names
from rmtension.study.scorings import MEASURED, SCORINGS, Neurons

# Few distinct values, so that ties abound.
values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=60)
RM = ["m", "helpful", "0"]


def scores_frame(scores: list[float], neurons: int = 4) -> pl.DataFrame:
    index = np.arange(len(scores))
    return pl.DataFrame({"layer": index // neurons, "neuron": index % neurons, "s": scores})


def ranked(scores: pl.DataFrame, scoring: str) -> pl.DataFrame:
    return ranking(scores, scoring).with_columns(scoring=pl.lit(scoring))


@given(scores=values, percent=st.floats(0.5, 100))
def test_top_percent_against_sorting(scores: list[float], percent: float) -> None:
    ranks = ranked(scores_frame(scores).sample(fraction=1, shuffle=True, seed=1), "s")
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: round(percent / 100 * len(scores))]
    assert oriented_set(ranks, "s", percent).rows() == [("neuron", i // 4, i % 4) for i in sorted(expected)]
    assert sorted(ranks["rank"]) == list(range(1, len(scores) + 1))


def test_sizes_are_percents_or_counts() -> None:
    """Of neurons there are as many as a count says; there are few heads, and a set has what there is of them."""
    one = ranked(scores_frame([float(i % 7) for i in range(12)]), "s")
    neurons = pl.concat([one, one.with_columns(scoring=pl.lit("t"))])
    heads = ranked(scores_frame([3.0, 1.0, 2.0], 1).rename({"s": "head-s"}), "head-s")
    ranks = pl.concat([neurons, heads])
    sets = oriented_sets(ranks, ["s", "head-s"], ["1n", "3n", "12n", 25, 100])
    assert {name: len(members) for name, members in sets.items()} == {
        "s-n1": 1, "s-n3": 3, "s-n12": 12, "s-p25": 3, "all": 12,
        "head-s-n1": 1, "head-s-n3": 3, "head-s-n12": 3, "head-s-p25": 1, "all-heads": 3,
    }  # fmt: skip
    assert sets["s-n1"].rows() == [("neuron", 1, 2)] and sets["s-n3"].equals(sets["s-p25"])
    for size in ("13n", "99999999999999999999999n"):
        with pytest.raises(UserError) as raised:
            oriented_sets(ranks, ["head-s", "t"], ["1n", size])
        assert str(raised.value) == f"ablation.sweep: {size}: there are 12 neurons: give a smaller count"
    assert set(oriented_sets(ranks, ["head-s"], ["99999999999999999999999n"]).popitem()[1]["neuron"]) == {0}


# --- a mixed reward model's sets --------------------------------------------------------------------------------

LAYERS, NEURONS = 4, 25
Place = tuple[int, int]
place = st.tuples(st.integers(0, LAYERS - 1), st.integers(0, NEURONS - 1))
subsets = st.sets(place, max_size=50)


def frame_of(neurons: Iterable[Place]) -> pl.DataFrame:
    frame = pl.DataFrame(sorted(neurons), schema={"layer": pl.Int32, "neuron": pl.Int32}, orient="row")
    return frame.select(pl.lit("neuron").alias("unit"), pl.all())


def places(frame: pl.DataFrame) -> list[Place]:
    return frame.select("layer", "neuron").rows()


def statistics(layers: int = LAYERS, neurons: int = NEURONS) -> pl.DataFrame:
    """Activation statistics in which loudness follows no order of the neurons."""
    index = pl.DataFrame({"layer": range(layers)}).join(pl.DataFrame({"neuron": range(neurons)}), how="cross")
    index = index.join(pl.DataFrame({"response": ["chosen", "rejected"]}), how="cross")
    rng = np.random.default_rng(7)
    drawn = {name: rng.exponential(size=len(index)) for name in ("mean_abs", "change_rms", "frac_positive", "rms")}
    frame = index.with_columns(mean=rng.standard_normal(len(index)), **{k: pl.Series(v) for k, v in drawn.items()})
    return frame.cast({"layer": pl.Int32, "neuron": pl.Int32}).sample(fraction=1, shuffle=True, seed=2)


def naive_cells(frame: pl.DataFrame) -> dict[Place, tuple[int, int]]:
    """Neuron -> layer and decile of loudness in it, by sorting each layer."""
    loud: dict[Place, float] = {}
    for row in frame.iter_rows(named=True):
        key = (row["layer"], row["neuron"])
        loud[key] = loud.get(key, 0.0) + row["mean_abs"]
    cells: dict[Place, tuple[int, int]] = {}
    for layer in {key[0] for key in loud}:
        order = sorted((key for key in loud if key[0] == layer), key=lambda key: (loud[key], key))
        cells |= {key: (layer, 10 * i // len(order)) for i, key in enumerate(order)}
    return cells


STATISTICS = statistics()
NAIVE = naive_cells(STATISTICS)
CELLS = loudness_cells(STATISTICS)


def test_loudness_cells_against_sorting() -> None:
    assert {(layer, n): (layer, decile) for _, layer, n, decile in CELLS.rows()} == NAIVE


@given(helpful=subsets, harmless=subsets)
def test_set_algebra_against_python_sets(helpful: set[Place], harmless: set[Place]) -> None:
    sets = whole_sets({"helpful": frame_of(helpful), "harmless": frame_of(harmless)})
    one_sided = {layer for layer, _ in helpful} ^ {layer for layer, _ in harmless}
    expected = {
        "shared": helpful & harmless,
        "helpful-only": helpful - harmless,
        "harmless-only": harmless - helpful,
        "shared-authors": (helpful & harmless) | {n for n in helpful | harmless if n[0] in one_sided},
    }
    assert {name: sorted(places(frame)) for name, frame in sets.items()} == {k: sorted(v) for k, v in expected.items()}
    three = [set(places(sets[name])) for name in ("shared", "helpful-only", "harmless-only")]
    assert set.union(*three) == helpful | harmless and sum(map(len, three)) == len(helpful | harmless)
    long = sets_to_frame(sets)
    assert {name: set(places(long.filter(ablation=name))) for name in sets} == expected
    assert sets_to_frame({}).schema == long.schema


@given(helpful=subsets, harmless=subsets, seed=st.integers(0, 9))
def test_controls_have_one_size_and_the_cells_of_what_they_stand_for(
    helpful: set[Place], harmless: set[Place], seed: int
) -> None:
    singles = {"helpful": frame_of(helpful), "harmless": frame_of(harmless)}
    sets = tension_sets(singles, CELLS, 2, seed, RM)
    index = tension_sets_index(list(singles), 2)
    assert list(sets) == [one.name for one in index]
    size = min(len(sets[name]) for name in ("shared", "helpful-only", "harmless-only"))
    for one in index:
        found = places(sets[one.name])
        assert len(set(found)) == len(found)
        if one.control != "whole":
            assert len(found) == size
        if one.control == "size-matched":
            assert set(found) <= set(places(sets[one.set]))
        if one.control == "matched-random":
            sized = places(sets[f"{one.set}-sized-{one.draw}"])
            assert Counter(NAIVE[n] for n in found) == Counter(NAIVE[n] for n in sized)
    again = tension_sets(singles, CELLS, 2, seed, RM)
    assert all(frame.equals(again[name]) for name, frame in sets.items())


@pytest.mark.parametrize(
    ("layers", "neurons", "percent", "quiet_early", "total"),
    [
        (6, 50, 10, False, 30),
        (7, 11, 10, False, 8),
        (6, 50, 10, True, 3),  # the early third has the three quietest deciles alone, and a third of the fourth
        (6, 5, 100, False, 4),
        (3, 4, 25, False, 0),  # a decile is a neuron or two
        (2, 30, 10, False, 0),
    ],
)
def test_thirds_hold_equally_many_of_every_decile_of_the_network(
    layers: int, neurons: int, percent: float, quiet_early: bool, total: int
) -> None:
    """Against sorting: as many as wanted, or as the third with the fewest of a decile has."""
    early = pl.col("layer") < layers // 3
    frame = statistics(layers, neurons).with_columns(
        mean_abs=pl.when(early & quiet_early).then(pl.col("mean_abs") / 1000).otherwise("mean_abs")
    )
    sets = thirds_sets(frame, percent, 2, 5, RM)
    assert list(sets) == list(thirds_names(2)) and len(sets) == 6
    loud: dict[Place, float] = {}
    for row in frame.iter_rows(named=True):
        place = (row["layer"], row["neuron"])
        loud[place] = loud.get(place, 0.0) + row["mean_abs"]
    order = sorted(loud, key=lambda place: loud[place])
    decile = {place: 10 * i // len(order) for i, place in enumerate(order)}
    third = {place: ["early", "middle", "late"][3 * place[0] // layers] for place in order}
    size = round(percent / 100 * len(order))
    expected = [
        min(size * (d + 1) // 10 - size * d // 10,
            *(sum(third[p] == t and decile[p] == d for p in order) for t in ("early", "middle", "late")))
        for d in range(10)
    ]  # fmt: skip
    assert sum(expected) == total
    for name, members in sets.items():
        chosen = places(members)
        assert len(set(chosen)) == len(chosen) and {third[place] for place in chosen} <= {name.split("-")[0]}
        assert [sum(decile[place] == d for place in chosen) for d in range(10)] == expected
    again = thirds_sets(frame.reverse(), percent, 1, 5, RM)
    assert all(again[name].equals(sets[name]) for name in again)
    if total == 30:
        assert len({tuple(places(members)) for members in sets.values()}) == 6
        assert not thirds_sets(frame, percent, 1, 6, RM)["late-matched-0"].equals(sets["late-matched-0"])


def test_what_training_leaves_as_it_is() -> None:
    one, other = {(0, 0), (0, 1), (1, 2), (1, 3)}, {(0, 1), (1, 2), (1, 4)}
    singles = {"helpful": frame_of(one), "harmless": frame_of(other)}
    of = ("m", "repair", "0")
    named = {name: frozen_set(name, singles, STATISTICS, of) for name in ("shared", "helpful-only", "matched")}
    assert set(places(named["shared"])) == one & other
    assert set(places(named["helpful-only"])) == one - other
    assert sorted(layer for layer, _ in places(named["matched"])) == [0, 1]
    for name in ("shared", "matched"):
        with pytest.raises(UserError, match=rf"^regimes.repair.frozen: '{name}' of a and b holds no neuron of m"):
            frozen_set(name, {"a": frame_of({(0, 0)}), "b": frame_of({(0, 1)})}, STATISTICS, of)
    every = frame_of(STATISTICS.select("layer", "neuron").rows())  # of which there are no others as loud
    with pytest.raises(UserError, match=r"'matched' of a and b holds no neuron .* smaller ablation\.percent"):
        frozen_set("matched", {"a": every, "b": every}, STATISTICS, of)


def test_likes_are_others_and_the_nearest_together() -> None:
    """Against every way to take as many others: of the loudest neurons too, which a decile would give back."""
    frame = statistics(2, 7)
    loud = {(row["layer"], row["neuron"]): 0.0 for row in frame.iter_rows(named=True)}
    for row in frame.iter_rows(named=True):
        loud[row["layer"], row["neuron"]] += row["mean_abs"] / 2
    loudest = sorted((place for place in loud if place[0] == 0), key=lambda place: -loud[place])[:3]
    found = places(like(frame_of([*loudest, (1, 4)]), frame))
    for members in (loudest, [(1, 4)]):
        others = [place for place in loud if place[0] == members[0][0] and place not in members]
        best = min(
            sum(abs(loud[a] - loud[b]) for a, b in zip(members, chosen, strict=True))
            for chosen in permutations(others, len(members))
        )
        chosen = [place for place in found if place[0] == members[0][0]]
        assert len(set(chosen)) == len(members) and set(chosen).isdisjoint(members)
        assert min(
            sum(abs(loud[a] - loud[b]) for a, b in zip(members, order, strict=True)) for order in permutations(chosen)
        ) == pytest.approx(best)


def test_every_draw_is_its_own() -> None:
    """Of big sets no two draws agree, and a draw does not depend on how many there are."""
    singles = {
        "helpful": frame_of((layer, n) for layer in range(3) for n in range(20)),
        "harmless": frame_of((layer, n) for layer in range(1, 4) for n in range(2, 25)),
    }
    two, three = (tension_sets(singles, CELLS, draws, 0, RM) for draws in (2, 3))
    drawn = [tuple(places(three[one.name])) for one in tension_sets_index(list(singles), 3) if one.control != "whole"]
    assert len(drawn) == 3 * 7
    assert len(set(map(frozenset, drawn))) == 3 * 7 - 2, "the smallest set is itself at the common size, in every draw"
    assert all(frame.equals(three[name]) for name, frame in two.items())
    others = [
        tension_sets(singles, CELLS, 1, 1, RM),
        tension_sets(singles, CELLS, 1, 0, ["m", "helpful", "1"]),
    ]
    assert not any(other["shared-sized-0"].sort(UNIT).equals(two["shared-sized-0"].sort(UNIT)) for other in others)


def test_controls_are_as_random_as_they_can_be() -> None:
    """Over many seeds each neuron of the cell is the image about equally often."""
    one = frame_of([(2, 3)])
    images = Counter(places(matched(one, CELLS, [seed, 1]))[0] for seed in range(600))
    cell = [n for n, c in NAIVE.items() if c == NAIVE[2, 3]]
    assert set(images) == set(cell) and len(cell) > 1
    assert all(abs(count / 600 - 1 / len(cell)) < 0.1 for count in images.values())


# --- rankings -----------------------------------------------------------------------------------------------------

HEADS = pl.DataFrame(
    {"layer": [0, 0, 0, 0, 1, 1, 1, 1], "head": [0, 0, 1, 1] * 2, "response": ["chosen", "rejected"] * 4,
     "mean_norm": [1.0, 2.0, 4.0, 5.0, 0.0, 1.0, 9.0, 0.0]},
    schema_overrides={"layer": pl.Int32, "head": pl.Int32},
)  # fmt: skip
EVERY = [*SCORINGS]


def attributions(neurons: Iterable[Place]) -> pl.DataFrame:
    """Of those neurons and of HEADS: some of either sign, in no order."""
    units = [("neuron", *n) for n in sorted(neurons)] + [("head", layer, head) for layer in (0, 1) for head in (0, 1)]
    drawn = np.random.default_rng(9).standard_normal(len(units))
    rows = [(*unit, value, 2 * abs(value) - value) for unit, value in zip(units, drawn, strict=True)]
    return pl.DataFrame(rows[::-1], ATTRIBUTIONS, orient="row")


def all_rankings(target: str = "mean_abs", **settings: Any) -> pl.DataFrame:
    neurons = Neurons(**({"scorings": EVERY} | settings))
    return rankings(STATISTICS, HEADS, attributions(NAIVE), neurons, target, RM)


def test_every_scoring_that_a_study_may_name_ranks() -> None:
    assert set(all_rankings(scorings=[*SCORINGS])["scoring"]) == set(SCORINGS)
    assert {*SCORES, "magnitude"} == set(MEASURED)


@pytest.mark.parametrize("target", MEASURED)
def test_every_prefix_of_matched_random_has_the_cells_of_the_targets(target: str) -> None:
    ranks = all_rankings(target)
    pair = [ranks.filter(scoring=name).sort("rank") for name in (target, "matched-random")]
    cells = [[NAIVE[n] for n in places(one)] for one in pair]
    assert cells[0] == cells[1]
    assert sorted(places(pair[1])) == sorted(NAIVE) and places(pair[0]) != places(pair[1])
    assert pair[0]["score"].to_list() == pair[1]["score"].to_list()


def test_a_sets_prefix_and_its_image_go_together() -> None:
    """matched is one permutation: what it makes of a part is part of what it makes of the whole."""
    whole = all_rankings().filter(scoring="change")
    moved = matched(whole, CELLS, [3, 4])
    assert moved["rank"].to_list() == whole["rank"].to_list()
    assert places(matched(whole[:17], CELLS, [3, 4])) == places(moved)[:17]
    assert sorted(places(moved)) == sorted(places(whole))


def test_scores_are_plain_averages_of_both_responses() -> None:
    few = pl.DataFrame(
        {
            "layer": [0, 0, 0, 0],
            "neuron": [0, 0, 1, 1],
            "response": ["chosen", "rejected"] * 2,
            "n_tokens": [10, 30, 10, 30],
            "mean": [-1.0, -3.0, 0.5, 0.1],
            "mean_abs": [1.0, 3.0, 0.5, 0.1],
            "rms": [1.0, 4.0, 0.5, 0.1],
            "change_rms": [0.2, 0.4, 0.0, 0.1],
            "frac_positive": [0.0, 0.5, 1.0, 0.5],
        },
        schema_overrides={"layer": pl.Int32, "neuron": pl.Int32},
    )
    expected = {
        "mean": [(1, 0.3), (0, -2.0)],
        "mean_abs": [(0, 2.0), (1, 0.3)],
        "change": [(0, 0.3), (1, 0.05)],
        "probability": [(1, 0.75), (0, 0.25)],
        "attribution": [(1, 0.1), (0, -0.2)],
        "attribution-abs": [(0, 0.4), (1, 0.3)],
    }
    units = [("neuron", 0, 0, -0.2, 0.4), ("neuron", 0, 1, 0.1, 0.3)]
    units += [("head", layer, head, 2.0 * layer - head, 5.0) for layer in (0, 1) for head in (0, 1)]
    of_few = pl.DataFrame(units, ATTRIBUTIONS, orient="row")
    for magnitude in ("mean", "mean_abs"):
        ranks = rankings(few, HEADS, of_few, Neurons(scorings=EVERY, magnitude=magnitude), "mean", RM)
        for scoring, rows in (expected | {"magnitude": expected[magnitude]}).items():
            found = ranks.filter(scoring=scoring).select("neuron", "score").rows()
            assert [n for n, _ in found] == [n for n, _ in rows], scoring
            np.testing.assert_allclose([s for _, s in found], [s for _, s in rows], atol=1e-12)
        heads = ranks.filter(scoring="head-norm")
        assert heads.select("unit", "layer", "neuron", "score", "rank").rows() == [
            # A tie goes by layer and index.
            ("head", 0, 1, 4.5, 1), ("head", 1, 1, 4.5, 2), ("head", 0, 0, 1.5, 3), ("head", 1, 0, 0.5, 4),
        ]  # fmt: skip
        by_attribution = ranks.filter(scoring="head-attribution").select("unit", "layer", "neuron", "score").rows()
        assert by_attribution == [("head", 1, 0, 2.0), ("head", 1, 1, 1.0), ("head", 0, 0, 0.0), ("head", 0, 1, -1.0)]
        assert sorted(places(ranks.filter(scoring="head-random"))) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_attributions_are_needed_where_a_scoring_takes_them_and_nowhere_else() -> None:
    none, others = pl.DataFrame(schema=ATTRIBUTIONS), [name for name in EVERY if "attribution" not in name]
    without = rankings(STATISTICS, HEADS, none, Neurons(scorings=others), "mean_abs", RM)
    assert without.equals(all_rankings().filter(pl.col("scoring").is_in(others)))
    taking = [name for name in EVERY if Neurons(scorings=[name]).takes_attributions]
    assert taking == [name for name in EVERY if name not in others]


def test_what_is_drawn_depends_on_its_names_and_on_nothing_else() -> None:
    drawn = ["random", "matched-random", "head-random"]
    whole = all_rankings()
    assert all_rankings(scorings=["mean_abs", *drawn], magnitude="mean").equals(
        whole.filter(pl.col("scoring").is_in(["mean_abs", *drawn]))
    )
    elsewhere = rankings(STATISTICS, HEADS, attributions(NAIVE), Neurons(scorings=EVERY), "mean_abs", ["m"])
    for other in (all_rankings(random_seed=1), elsewhere):
        for scoring in ("random", "matched-random"):
            assert not other.filter(scoring=scoring).equals(whole.filter(scoring=scoring))
        assert other.filter(scoring="change").equals(whole.filter(scoring="change"))
    names = [seed_of(0, *rm) for rm in (("m", "helpful", "0"), ("m", "harmless", "0"), ("m", "helpful", "1"))]
    assert len({tuple(seed) for seed in [*names, seed_of(1, "m", "helpful", "0")]}) == 4


def test_names() -> None:
    names = [ablation_name("change", p) for p in (2.0, 2.5, 10, 100)]
    assert names == ["change-p2", "change-p2.5", "change-p10", "all"]
    assert [ablation_name("head-norm", p) for p in (10, 100)] == ["head-norm-p10", "all-heads"]
    scores = scores_frame([1.0, 2.0, 3.0]).with_columns(t=pl.col("s") * -1)
    sets = oriented_sets(pl.concat([ranked(scores, "s"), ranked(scores, "t")]), ["s", "t"], [34, 100])
    assert {name: len(frame) for name, frame in sets.items()} == {"s-p34": 1, "t-p34": 1, "all": 3}
    index = tension_sets_index(["a", "b"], 1)
    assert index == [
        ("shared", "shared", "whole", None),
        ("a-only", "a-only", "whole", None),
        ("b-only", "b-only", "whole", None),
        ("shared-authors", "shared-authors", "whole", None),
        ("shared-sized-0", "shared", "size-matched", 0),
        ("shared-matched-0", "shared", "matched-random", 0),
        ("a-only-sized-0", "a-only", "size-matched", 0),
        ("a-only-matched-0", "a-only", "matched-random", 0),
        ("b-only-sized-0", "b-only", "size-matched", 0),
        ("b-only-matched-0", "b-only", "matched-random", 0),
        ("random-sized-0", "random", "random", 0),
    ]
    assert tension_sets_index([], 3) == []
