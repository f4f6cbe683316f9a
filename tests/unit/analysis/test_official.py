"""The benchmarks' own metrics on made scores, against answers worked out in the comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import tanh

import polars as pl
import pytest

from rmtension.analysis.official import SECTIONS_FILE, official_metrics, sections
from rmtension.data.tasks import TASKS_FILE, subset_names

Sides = tuple[Sequence[float], Sequence[float]] | tuple[None, None]
Scored = Mapping[str, Sequence[Sides]]
RIGHT, WRONG, TIE, UNSCORED = ([1], [0]), ([0], [1]), ([1], [1]), (None, None)


def frame(scored: Scored, model: str = "m") -> pl.DataFrame:
    """Subset, or subset and the end of a comparison's id -> chosen and rejected scores of its comparisons."""
    names = [name.partition("/") for name, several in scored.items() for _ in several]
    chosen, rejected = zip(*(sides for several in scored.values() for sides in several), strict=True)
    lists = {"chosen_scores": pl.List(pl.Float32), "rejected_scores": pl.List(pl.Float32)}
    return pl.DataFrame(
        {
            "model": model,
            "benchmark": "b",
            "comparison_id": [f"b/{row}{slash}{end}" for row, (_, slash, end) in enumerate(names)],
            "subset": [subset for subset, _, _ in names],
            "chosen_scores": chosen,
            "rejected_scores": rejected,
        },
        schema_overrides=lists,
    )


def values(scores: pl.DataFrame, kind: str, model: str = "m") -> dict[str, float | None]:
    return dict(official_metrics(scores, kind, ["model"]).filter(model=model).select("metric", "value").rows())


REWARD_BENCH: dict[str, Sequence[Sides]] = {
    **{subset: [RIGHT] for subset in sections("reward-bench")["subset"]},
    "alpacaeval-easy": [TIE],
    "xstest-should-refuse": [WRONG],
    "math-prm": [RIGHT, WRONG, UNSCORED],
}


def test_reward_bench_weighs_subsets_by_the_official_counts() -> None:
    expected = {
        "Chat": 100 * 258 / 358,  # a tie is wrong: 100 of 100 + 95 + 95 + 28 + 40 are lost
        "Chat Hard": 100,
        "Safety": 100 * 586 / 740,  # 154 lost of 100 + 100 + 154 + 250 + 136
        "Reasoning": 75,  # half of 984 lost of 984 + 6 x 164
    }
    expected["overall"] = sum(expected.values()) / 4
    assert values(frame(REWARD_BENCH), "reward-bench") == pytest.approx(expected)


def test_a_missing_subset_leaves_its_section_and_the_overall_value_empty() -> None:
    partial = {**REWARD_BENCH, "hep-go": [UNSCORED]}
    partial.pop("donotanswer")
    scores = pl.concat([frame(REWARD_BENCH), frame(partial, "partial")])
    whole, broken = values(scores, "reward-bench"), values(scores, "reward-bench", "partial")
    assert whole == values(frame(REWARD_BENCH), "reward-bench")
    assert broken == {**whole, "Safety": None, "Reasoning": None, "overall": None}


def test_comparisons_are_counted_scored_or_not() -> None:
    metrics = official_metrics(frame(REWARD_BENCH), "reward-bench", ["model"])
    counts = {metric: (n, missing) for metric, n, missing in metrics.select("metric", "^n_.*$").rows()}
    assert counts["Reasoning"] == (9, 1), "six code subsets of one, math-prm of three"
    assert counts["Chat Hard"] == (6, 0) and counts["overall"] == (25, 1)


def test_weights_are_the_real_counts_but_where_the_official_ones_are_not() -> None:
    tasks = pl.read_csv(TASKS_FILE).filter(pl.col("benchmark") != "reward-bench-2")
    both = pl.read_csv(SECTIONS_FILE).join(tasks, on=["benchmark", "subset"])
    assert len(both) == 17 + 4
    differing = both.filter(pl.col("weight") != pl.col("n_prompts")).select("subset", "weight", "n_prompts")
    assert differing.rows() == [("math-prm", 984, 447)]


# gap: lowest chosen - highest rejected; spread: highest - lowest chosen.
TIES: Scored = {
    "Ties/tied:1": [([3, 2.5], [1, 0])],  # gap 1.5, spread 0.5
    "Ties/ref:1": [([2], [1, 0])],  # gap 1
    "Ties/ref:2": [([0.25], [0, -1])],  # gap 0.25
    "Ties/tied:2": [([4, 3], [1, 0])],  # gap 2, spread 1
    "Ties/tied:13": [([1, 1], [1, 0])],  # gap 0, spread 0
    "Ties/ref:13": [([0], [1, 0])],  # gap -1
    "Ties/ref:4": [([1], [0, 0])],  # gap 1
    "Ties/tied:4": [([1, 1], [1, 0])],  # gap 0, spread 0
    "Ties/ref:5": [UNSCORED],
    "Ties/tied:5": [([5, 4], [0, 0])],  # gap 4, spread 1, but no pair
}
# One correct response ahead: questions 1, 2, 4 of four. Several: 1, 2, 5 of five. Over the four pairs: gap of tied
# above spread in 1 and 2; the smaller gap (1, 0.25, -1, 0) in 1; tanh(gap / spread - 1) with 0 / 0 counted as 0.
TIES_VALUE = (
    30 * 3 / 4 + 30 * 3 / 5 + 20 * 2 / 4 + 20 * 1 / 4 + (tanh(1 / 0.5 - 1) + tanh(0.25 / 1 - 1) + tanh(-1e9) + 0) / 4
)


def test_reward_bench_2() -> None:
    scores = frame(
        {
            "Factuality": [([5], [5, 5, 0]), ([1], [0, 0, 0]), ([0], [1, 0, 0])],  # a third, one, nothing
            "Precise IF": [([2], [2, 1, 0])],
            "Math": [([2], [3, 3, 2])],
            "Safety": [([1], [0, 0, 0])],
            "Focus": [([1], [1, 1, 1]), UNSCORED],
            **TIES,
        }
    )
    expected = {
        "Factuality": 100 * 4 / 9, "Precise IF": 50, "Math": 0, "Safety": 100, "Focus": 25, "Ties": TIES_VALUE
    }  # fmt: skip
    expected["overall"] = sum(expected.values()) / 6
    assert values(scores, "reward-bench-2") == pytest.approx(expected)
    assert values(scores.filter(pl.col("subset") != "Ties"), "reward-bench-2")["overall"] is None


# Chosen in three styles against rejected in three styles: cells [[1, 1, 1], [0, 1, 1], [0, 1, 0]].
STYLES = ([3, 2, 1], [2.5, 0.5, 1.5])
RIGHT_STYLES, WRONG_STYLES = ([1, 1, 1], [0, 0, 0]), ([0, 0, 0], [0, 0, 0])


def test_rm_bench_rows_are_the_chosen_styles() -> None:
    scores = frame({"chat": [STYLES], "math": [RIGHT_STYLES], "safety-refuse": [RIGHT_STYLES],
                    "safety-response": [WRONG_STYLES], "code": [WRONG_STYLES, UNSCORED]})  # fmt: skip
    found = values(scores, "rm-bench")
    # Above the diagonal 1, 1, 1; on it 1, 1, 0; below it 0, 0, 1.
    chat = {"hard": 100, "normal": 200 / 3, "easy": 100 / 3, "average": 600 / 9}
    assert {name: found[f"chat: {name}"] for name in chat} == pytest.approx(chat)
    assert found["chat: chosen style 1, rejected style 2"] == 100
    assert found["chat: chosen style 2, rejected style 1"] == 0
    # One domain of 284 prompts all right and 157 all wrong, as the official script pools them.
    assert [found["safety: hard"], found["safety: average"]] == pytest.approx([100 * 284 / 441] * 2)
    assert found["overall: easy"] == pytest.approx((100 / 3 + 100 + 100 * 284 / 441 + 0) / 4)
    assert found["overall: average"] == pytest.approx((600 / 9 + 100 + 100 * 284 / 441 + 0) / 4)
    assert len(found) == 5 * (4 + 9)
    partial = values(scores.filter(pl.col("subset") != "safety-response"), "rm-bench")
    assert partial["safety: hard"] is None is partial["overall: average"] and partial["chat: hard"] == 100


def test_no_metrics_for_other_benchmarks() -> None:
    metrics = official_metrics(frame({"t": [RIGHT]}), "synthetic", ["model"])
    assert len(metrics) == 0 and metrics.schema == official_metrics(frame(TIES), "reward-bench-2", ["model"]).schema


def test_task_names_lead_back_to_subsets() -> None:
    names = {kind: dict(subset_names(kind).rows()) for kind in ("reward-bench", "reward-bench-2", "rm-bench")}
    assert [len(tasks) for tasks in names.values()] == [23, 6, 5]
    assert names["reward-bench"]["LLM Bar (Natural)"] == "llmbar-natural"
    assert names["reward-bench"]["hep-go"] == "hep-go"
    assert (names["reward-bench-2"]["Math"], names["rm-bench"]["Math"]) == ("Math", "math")
