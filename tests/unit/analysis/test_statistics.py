from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtension.analysis.statistics import Block, Bootstrap, Draws, blocks, concat, discovery_rates, limits
from rmtension.study.naming import OVERALL

BY = ["model", "regime"]
BOOTSTRAP = Bootstrap(draws=300, seed=1, confidence=0.9)


def figures(rows: list[tuple[str, int, float]]) -> Draws:
    """model, seed and a figure on which no comparison has a bearing."""
    frame = pl.DataFrame(rows, schema={"model": pl.String, "seed": pl.Int64, "value": pl.Float64}, orient="row")
    return BOOTSTRAP.constant(frame.with_columns(regime=pl.lit("r")), "value")


def block(correct: list[list[bool]], scored: list[list[bool]]) -> Block:
    units = pl.DataFrame({"model": "m", "regime": "r", "seed": range(len(correct)), "ablation": "none"})
    chosen = np.where(scored, np.where(correct, 1.0, 0.0), np.nan).astype(np.float32)
    rejected = np.where(scored, 0.5, np.nan).astype(np.float32)
    ids = pl.Series([f"c{i}" for i in range(chosen.shape[1])], dtype=pl.String)
    return Block("b", "helpful", "t", units, ids, np.full(len(units), len(ids)), chosen, rejected)


@given(st.data())
@settings(max_examples=30)
def test_draws_of_a_ratio_are_those_of_comparisons_repeated_as_often_as_drawn(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    rows = st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=2, max_size=2)
    made = block(data.draw(rows), data.draw(rows))
    found = BOOTSTRAP.accuracy([made]).values
    counts = BOOTSTRAP.counts(n, "b", "t").astype(int)
    assert (counts.sum(axis=0) == n).all() and (counts[:, 0] == 1).all()
    for draw in (0, 1, 17, 300):
        drawn = np.repeat(np.arange(n), counts[:, draw])
        for unit in range(2):
            kept = [made.correct[unit, i] for i in drawn if made.scored[unit, i]]
            expected = 100 * np.mean(kept) if kept else np.nan
            assert found[unit, draw] == pytest.approx(expected, nan_ok=True)


def test_reward_models_share_their_draws_so_that_equal_ones_differ_by_nothing() -> None:
    right = [[True, False, True, True, False, False, True, False]] * 2
    accuracy = BOOTSTRAP.accuracy([block(right, [[True] * 8] * 2)])
    assert accuracy.values[0].std() > 0
    difference = accuracy.filter(seed=0).minus(accuracy.filter(seed=1), ["model"])
    assert (difference.values == 0).all()


def test_the_spread_over_comparisons_is_that_of_a_proportion() -> None:
    many = Bootstrap(draws=20_000, seed=0, confidence=0.95)
    right = [[i < 30 for i in range(40)]]
    drawn = many.accuracy([block(right, [[True] * 40])]).values[0, 1:]
    assert drawn.std() == pytest.approx(100 * np.sqrt(0.75 * 0.25 / 40), rel=0.03)


def test_the_spread_over_seeds_is_that_of_a_mean_of_few() -> None:
    many = Bootstrap(draws=20_000, seed=0, confidence=0.95)
    frame = pl.DataFrame({"model": "m", "seed": [1, 2, 3], "value": [1.0, 4.0, 7.0]})
    drawn = many.over_seeds(many.constant(frame, "value"), ["model"]).values[0]
    assert drawn[0] == pytest.approx(4)
    # Sample variance 9, of the mean of three 3; an uncorrected bootstrap would have 2.
    assert drawn[1:].var() == pytest.approx(3, rel=0.05)


def test_a_seed_without_a_value_is_left_out() -> None:
    found = BOOTSTRAP.summary(figures([("m", 1, 2.0), ("m", 2, float("nan")), ("m", 3, 4.0)]), BY, "x")
    row = found.row(0, named=True)
    assert (row["x_mean"], row["x_sd"], row["n_seeds"]) == (3, 1, 2)
    assert 2 - 0.5 <= row["x_low"] < 3 < row["x_high"] <= 4 + 0.5


def test_models_count_alike_whatever_their_seeds_and_their_spread_is_of_their_mean() -> None:
    rows = [("a", 1, 0.0), ("a", 2, 2.0), ("b", 1, 10.0), ("b", 2, 8.0)]
    summary = BOOTSTRAP.summary(figures(rows), BY, "x")
    found = summary.filter(model=OVERALL).row(0, named=True)
    # Means 1 and 9; of each seed 5 and 5.
    assert (found["x_mean"], found["x_sd"], found["n_seeds"]) == (5, 0, 2)
    assert summary.filter(model="a").row(0, named=True)["x_sd"] == 1


def test_one_seed_and_no_comparison_give_no_interval() -> None:
    row = BOOTSTRAP.summary(figures([("m", 1, 2.0)]), BY, "x").row(0, named=True)
    assert row["x_mean"] == 2 and row["x_low"] is None and row["x_high"] is None and row["p"] is None


def test_p_is_small_where_all_draws_lie_on_one_side() -> None:
    drawn = np.random.default_rng(0).normal([[5], [0]], 1, (2, 301))
    drawn[0] = np.abs(drawn[0])
    far, near = limits(Draws(pl.DataFrame({"model": ["far", "near"]}), drawn), 0.95)["p"]
    assert far == pytest.approx(2 / 301) and near > 0.5


def test_a_few_seeds_have_an_interval_and_no_p() -> None:
    row = BOOTSTRAP.summary(figures([("m", 1, 4.0), ("m", 2, 5.0), ("m", 3, 6.0)]), BY, "x").row(0, named=True)
    assert row["x_low"] > 0 and row["p"] is None


def test_an_orientation_averages_its_tasks_and_a_task_of_two_benchmarks_counts_once() -> None:
    rows = [("a", "math", 40.0), ("b", "math", 60.0), ("a", "focus", 80.0), ("a", "unscored", None)]
    frame = pl.DataFrame(rows, schema=["benchmark", "task", "accuracy"], orient="row")
    frame = frame.with_columns(seed=0, orientation=pl.lit("helpful"))
    found = BOOTSTRAP.constant(frame, "accuracy").with_averages(["seed"]).frame("value")
    # math: (40 + 60) / 2 = 50; average: (50 + 80) / 2 = 65, where counting rows would give 60.
    expected = {"math": 50, "focus": 80, "unscored": None, "average": 65}
    assert dict(found.select("task", "value").rows()) == expected


def test_blocks_keep_every_score_in_its_place() -> None:
    rng = np.random.default_rng(0)
    keys = [(m, r, a, f"c{i}") for m in "pq" for r in "xy" for a in ("none", "all") for i in range(4)]
    frame = pl.DataFrame(keys, schema=["model", "regime", "ablation", "comparison_id"], orient="row").with_columns(
        seed=1, benchmark=pl.lit("b"), orientation=pl.lit("o"), task=pl.lit("t"),
        chosen=pl.Series(rng.normal(size=32)), rejected=pl.Series(rng.normal(size=32)),
    )  # fmt: skip
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3).filter(
        ~((pl.col("model") == "p") & (pl.col("comparison_id") == "c2"))
    )
    (made,) = blocks([shuffled])
    ids = shuffled["comparison_id"].unique(maintain_order=True).to_list()
    for i, unit in enumerate(made.units.select("model", "regime", "ablation").rows()):
        for j, name in enumerate(ids):
            same = frame.filter(model=unit[0], regime=unit[1], ablation=unit[2], comparison_id=name).row(0, named=True)
            missing = unit[0] == "p" and name == "c2"
            assert np.isnan(made.chosen[i, j]) if missing else made.chosen[i, j] == np.float32(same["chosen"])
            assert made.correct[i, j] == (not missing and same["chosen"] > same["rejected"])


def test_false_discovery_rates_are_benjamini_and_hochberg_over_the_tasks_of_a_family() -> None:
    p = [0.01, 0.04, 0.03, 0.5, 0.02, 0.9]
    table = pl.DataFrame({"model": ["a"] * 5 + ["b"], "task": ["s", "t", "u", "v", "average", "s"], "p": p})
    found = discovery_rates(table, ["model"])["q"].to_list()
    # Of a's four tasks in order .01 .03 .04 .5: .01 * 4 / 1, .03 * 4 / 2 = .06 lowered to the next, .04 * 4 / 3, .5.
    assert found[:4] == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert found[4] is None and found[5] == pytest.approx(0.9)


def test_the_same_seed_gives_the_same_draws_and_another_one_others() -> None:
    one, same, other = (Bootstrap(50, seed, 0.95).counts(30, "b", "t") for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()
    assert (BOOTSTRAP.counts(30, "b", "t") != BOOTSTRAP.counts(30, "b", "u")).any()


def test_rows_are_put_under_each_other_by_column_name() -> None:
    one = figures([("a", 1, 2.0)])
    other = Draws(one.keys.select("seed", "model"), one.values)
    one = Draws(one.keys.select("model", "seed"), one.values)
    assert concat([one, other]).keys.rows() == [("a", 1), ("a", 1)]
