from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtension.statistics import accuracy, over_seeds, retention, with_orientation_averages

Outcome = bool | None
outcomes = st.lists(st.sampled_from([True, False, None]), min_size=6, max_size=6)


def scores(regime: str, correct: list[Outcome], ablation: str = "none", task: str = "focus") -> pl.DataFrame:
    keys = {"model": "m", "regime": regime, "seed": 0, "benchmark": "b", "ablation": ablation}
    return pl.DataFrame(
        {"comparison_id": [f"c{i}" for i in range(len(correct))], "correct": correct},
        schema_overrides={"correct": pl.Boolean},
    ).select(
        *[pl.lit(v).alias(k) for k, v in keys.items()],
        pl.all(),
        task=pl.lit(task),
        orientation=pl.lit("helpful"),
    )


def test_accuracy_is_over_scored_comparisons_only() -> None:
    some = accuracy(scores("helpful", [True, True, False, None])).row(0, named=True)
    assert some["accuracy"] == pytest.approx(200 / 3)
    assert (some["n_comparisons"], some["n_unscored"]) == (4, 1)
    assert accuracy(scores("helpful", [None, None]))["accuracy"].to_list() == [None]


def test_orientation_average_counts_a_task_of_two_benchmarks_once() -> None:
    rows = [("a", "math", 40.0), ("b", "math", 60.0), ("a", "focus", 80.0), ("a", "unscored", None)]
    frame = pl.DataFrame(rows, schema=["benchmark", "task", "accuracy"], orient="row")
    frame = frame.with_columns(seed=0, orientation=pl.lit("helpful"))
    found = with_orientation_averages(frame, ["seed"], "accuracy").select("task", "accuracy").rows()
    # math: (40 + 60) / 2 = 50; average: (50 + 80) / 2 = 65, where counting rows would give 60.
    assert found == [("math", 50), ("focus", 80), ("unscored", None), ("average", 65)]


def test_over_seeds_takes_the_population_deviation_and_counts_values() -> None:
    frame = pl.DataFrame({"task": ["t"] * 4, "accuracy": [50.0, 56.0, 62.0, None]})
    # Deviations -6, 0, 6: variance 72 / 3 = 24.
    assert over_seeds(frame, ["task"], "accuracy").rows() == [("t", 56.0, pytest.approx(24**0.5), 3)]


def test_retention_worked_by_hand() -> None:
    frame = pl.concat([
        scores("helpful", [True, True, False, False, None]),
        scores("harmless", [False, True, True, False, True]),
        scores("both", [True, False, True, True, None]),
        scores("both", [False, False, True, True, None], ablation="shared"),
        scores("helpful", [True] * 5, ablation="all"),
    ])  # fmt: skip
    # He or Ha = {0, 1, 2, 4}, of which the mixed model could not score 4; M keeps 0 and 2, ablated only 2.
    whole = retention(frame, "both", ["helpful", "harmless"])
    assert whole.select("retention", "n_comparisons").rows() == [(pytest.approx(2 / 3), 3)]
    assert retention(frame, "both", ["helpful", "harmless"], "shared")["retention"].item() == pytest.approx(1 / 3)


def test_retention_keeps_same_ids_of_different_tasks_apart() -> None:
    frame = pl.concat([
        scores("helpful", [True], task="focus"),
        scores("both", [True], task="focus"),
        scores("helpful", [False], task="math"),
        scores("both", [True], task="math"),
    ])  # fmt: skip
    assert retention(frame, "both", ["helpful"])["retention"].to_list() == [1, None]


@settings(max_examples=60, deadline=None)
@given(outcomes, outcomes, outcomes)
def test_retention_is_what_sets_give(he: list[Outcome], ha: list[Outcome], mixed: list[Outcome]) -> None:
    frame = pl.concat([scores("helpful", he), scores("harmless", ha), scores("both", mixed)])
    right = [{i for i, correct in enumerate(regime) if correct} for regime in (he, ha, mixed)]
    union = (right[0] | right[1]) - {i for i, correct in enumerate(mixed) if correct is None}
    expected = len(right[2] & union) / len(union) if union else None
    found = retention(frame, "both", ["helpful", "harmless"])["retention"].item()
    assert found == (expected if expected is None else pytest.approx(expected))
