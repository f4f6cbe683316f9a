"""Accuracy by length, rules without a model and correlations, held against loops and scipy on small data."""

from __future__ import annotations

import zlib
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from example_results import SETTINGS, STUDY
from example_results import example as example_results
from scipy.stats import spearmanr

from rmtension.analysis.length import (
    by_length,
    lead_correlations,
    length_correlations,
    longer_shares,
    set_correlations,
)
from rmtension.analysis.length_tables import length_correlation_table
from rmtension.analysis.pair_figures import PairFigures
from rmtension.analysis.pairs import pair_blocks
from rmtension.analysis.statistics import Bootstrap, Draws
from rmtension.analysis.surface import ruled, surface
from rmtension.study.study import Study

BOOTSTRAP = Bootstrap(30, 0, 0.95)
SCORES = {"chosen_scores": pl.List(pl.Float32), "rejected_scores": pl.List(pl.Float32)}
TOKENS = {"chosen_tokens": pl.List(pl.Int32), "rejected_tokens": pl.List(pl.Int32)}
WORDS = dict.fromkeys(["regime", "benchmark", "comparison_id", "orientation", "task"], pl.String) | {
    side: pl.List(pl.Float64) for side in SCORES
}
TASKS = {"a": (30, 1, 1), "b": (12, 2, 3)}  # comparisons, chosen and rejected responses


def example(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Scores of two regimes of two models and lengths by the models' tokenizers; one comparison is not scored."""
    rng = np.random.default_rng(seed)
    scores, lengths = [], []
    for model, (task, (n, chosen, rejected)) in product(("m", "o"), TASKS.items()):
        for i in range(n):
            place = {"benchmark": "bench", "comparison_id": f"{task}/{i}", "orientation": "helpful", "task": task}
            tokens = [rng.integers(0, 6, k).tolist() for k in (chosen, rejected)]
            lengths.append({"model": model} | place | dict(zip(TOKENS, tokens, strict=True)))
            for regime in ("helpful", "harmless"):
                found = [rng.normal(size=k).tolist() if (task, i) != ("a", 3) else None for k in (chosen, rejected)]
                unit = {"model": model, "regime": regime, "seed": 0, "ablation": "none"}
                scores.append(unit | place | dict(zip(SCORES, found, strict=True)))
    return pl.DataFrame(scores, schema_overrides=SCORES), pl.DataFrame(lengths, schema_overrides=TOKENS)


FRAME, LENGTHS = example()


def times(n: int, task: str, draw: int) -> list[int]:
    """How often each comparison of a task is drawn."""
    return [int(count) for count in BOOTSTRAP.counts(n, "bench", task)[:, draw]]


def pairs(model: str, regime: str, task: str, draw: int = 0) -> list[tuple[float, int]]:
    """Difference in reward and in length of every scored pair, as often as it is drawn."""
    found = []
    rows = FRAME.filter(model=model, regime=regime, task=task).to_dicts()
    counts = LENGTHS.filter(model=model, task=task).rows_by_key("comparison_id", named=True, unique=True)
    for row, n in zip(rows, times(len(rows), task, draw), strict=True):
        lengths = counts[row["comparison_id"]]
        if row["chosen_scores"] is not None:
            rewards = [a - b for a, b in product(row["chosen_scores"], row["rejected_scores"])]
            tokens = [a - b for a, b in product(lengths["chosen_tokens"], lengths["rejected_tokens"])]
            found += [*zip(rewards, tokens, strict=True)] * n
    return found


@pytest.mark.parametrize("draw", [0, 4, 30])
def test_either_side_of_length_by_loops(draw: int) -> None:
    figures = by_length(BOOTSTRAP, pair_blocks(FRAME), LENGTHS)
    for model, regime, task in product(("m", "o"), ("helpful", "harmless"), TASKS):
        of = pairs(model, regime, task, draw)
        longer, shorter = ([reward > 0 for reward, ahead in of if sign * ahead > 0] for sign in (1, -1))
        expected = {"longer": 100 * np.mean(longer), "shorter": 100 * np.mean(shorter),
                    "balanced": 50 * (np.mean(longer) + np.mean(shorter))}  # fmt: skip
        keys = {"model": model, "regime": regime, "task": task}
        assert {name: figures[name].filter(**keys).values[0, draw] for name in expected} == pytest.approx(expected)
        if draw == 0:  # how many pairs there are is counted once, and not in each draw
            counts = {"n_longer": len(longer), "n_shorter": len(shorter)}
            assert {name: figures[name].filter(**keys).values.tolist() for name in counts} == {
                name: [[count]] for name, count in counts.items()
            }


@pytest.mark.parametrize(("n", "known"), [(5, True), (4, False)])
def test_undefined_where_a_side_has_fewer_than_five_comparisons(n: int, known: bool) -> None:
    """However many pairs they have."""
    place = {"benchmark": "bench", "orientation": "helpful", "task": "t"}
    ids = [f"c{i}" for i in range(n + 5)]
    scores = [{"model": "m", "regime": "r", "seed": 0, "ablation": "none", "comparison_id": c, "chosen_scores": [1.0],
               "rejected_scores": [0.0, 0.0]} | place for c in ids]  # fmt: skip
    lengths = [{"model": "m", "comparison_id": c, "chosen_tokens": [3], "rejected_tokens": [2, 1] if i < n else [4, 5]}
               | place for i, c in enumerate(ids)]  # fmt: skip
    frames = pl.DataFrame(scores, schema_overrides=SCORES), pl.DataFrame(lengths, schema_overrides=TOKENS)
    figures = by_length(BOOTSTRAP, pair_blocks(frames[0]), frames[1])
    for name in ("balanced", "longer", "shorter"):
        assert figures[name].values[0, 0] == (100 if known else pytest.approx(np.nan, nan_ok=True))
    assert (figures["n_longer"].values[0, 0], figures["n_shorter"].values[0, 0]) == (2 * n, 10)


def test_all_lengths_equal_or_unknown_leaves_all_undefined() -> None:
    equal = LENGTHS.with_columns(pl.col(side).list.eval(pl.element() * 0) for side in TOKENS)
    for lengths in (equal, LENGTHS.clear()):
        figures = by_length(BOOTSTRAP, pair_blocks(FRAME), lengths)
        assert np.isnan(figures["balanced"].values).all() and (figures["n_longer"].values == 0).all()
        assert np.isnan(length_correlations(BOOTSTRAP, pair_blocks(FRAME), lengths).values).all()


def test_correlation_with_length_is_spearmans() -> None:
    figure = length_correlations(BOOTSTRAP, pair_blocks(FRAME), LENGTHS)
    for model, regime, task in product(("m", "o"), ("helpful", "harmless"), TASKS):
        rewards, tokens = zip(*pairs(model, regime, task), strict=True)
        found = figure.filter(model=model, regime=regime, task=task).values[0]
        assert found[0] == pytest.approx(spearmanr(rewards, tokens).statistic)
        # A draw repeats pairs, which keep the ranks that they have among all.
        ranks = {k: pl.Series(v).rank() for k, v in (("x", rewards), ("y", tokens))}
        n, candidates = len(FRAME.filter(model=model, regime=regime, task=task)), TASKS[task][1] * TASKS[task][2]
        counts = [c for i, c in enumerate(times(n, task, 7)) if (task, i) != ("a", 3)]
        repeated = np.repeat(np.arange(len(rewards)), np.repeat(counts, candidates))
        expected = np.corrcoef(ranks["x"].to_numpy()[repeated], ranks["y"].to_numpy()[repeated])[0, 1]
        assert found[7] == pytest.approx(expected)


def test_a_row_for_each_task_that_a_regime_is_judged_on() -> None:
    """Other regimes' own tests are none."""
    table = length_correlation_table(example_results())
    own = table.filter(benchmark="own-test", model="all models").select("regime", "task").rows()
    assert own == [("helpful", "helpful"), ("harmless", "harmless"), ("mixed", "helpful"), ("mixed", "harmless")]
    shared = table.filter(pl.col("benchmark") != "own-test", model="all models")
    assert dict(shared.group_by("regime").len().rows()) == dict.fromkeys(STUDY.regimes, 5)


def test_rules_by_loops() -> None:
    """The lowest of the chosen above the highest of the rejected, a tie is wrong; the mean over models' tokenizers."""
    words = LENGTHS.filter(model="m").select(
        "benchmark", "comparison_id", "orientation", "task", regime=pl.lit("helpful"),
        chosen_scores=pl.col("chosen_tokens").list.eval(pl.element() * 0.5), rejected_scores="rejected_tokens",
    ).cast({side: pl.List(pl.Float64) for side in SCORES})  # fmt: skip
    table = surface(BOOTSTRAP, ruled(LENGTHS, words))
    rules = ("longer", "shorter", "words:helpful")
    assert table.select("task", "rule").rows() == [*product(TASKS, rules)]
    for task in TASKS:
        right: dict[str, list[bool]] = {"longer": [], "shorter": [], "words:helpful": []}
        for row in LENGTHS.filter(task=task).to_dicts():
            chosen, rejected = row["chosen_tokens"], row["rejected_tokens"]
            right["longer"].append(min(chosen) > max(rejected))
            right["shorter"].append(max(chosen) < min(rejected))
            if row["model"] == "m":
                right["words:helpful"].append(min(chosen) / 2 > max(rejected))
        for rule, of in right.items():
            found = table.row(by_predicate=(pl.col("task") == task) & (pl.col("rule") == rule), named=True)
            assert found["accuracy_mean"] == pytest.approx(100 * np.mean(of))
            assert found["accuracy_low"] <= found["accuracy_mean"] <= found["accuracy_high"]
            assert found["n_comparisons"] == TASKS[task][0]


def test_shares_are_of_pairs_and_equal_lengths_are_no_taste_for_the_shorter() -> None:
    """By loops; a task of equal lengths has none."""
    counts = by_length(BOOTSTRAP, pair_blocks(FRAME), LENGTHS)
    found = {(model, task): share for model, _, task, share in longer_shares(counts).rows()}
    for task in TASKS:
        ahead = {model: [tokens for _, tokens in pairs(model, "helpful", task) if tokens] for model in ("m", "o")}
        for model, of in (*ahead.items(), ("all models", ahead["m"] + ahead["o"])):
            assert found[model, task] == pytest.approx(100 * np.mean([tokens > 0 for tokens in of]))
    # Of several candidates, who is longer in every second pair wins hardly a comparison.
    longer = surface(BOOTSTRAP, ruled(LENGTHS, pl.DataFrame(schema=WORDS))).filter(task="b", rule="longer")
    assert 35 < found["all models", "b"] < 65 and longer["accuracy_mean"].item() < 20
    level = LENGTHS.with_columns(pl.col(side).list.eval(0 * pl.element()) for side in TOKENS)
    assert longer_shares(by_length(BOOTSTRAP, pair_blocks(FRAME), level))["share"].to_list() == [None] * 6


def test_rules_are_right_where_a_reward_model_has_to_be() -> None:
    """In RM-Bench all chosen ones above all rejected ones or, as the authors have it, each above that of its style."""
    place = {"comparison_id": "a", "orientation": "helpful", "task": "t"}
    tokens = {"chosen_tokens": [5, 2, 9], "rejected_tokens": [1, 4, 8]}
    names = ("styles", "others")
    lengths = pl.DataFrame([{"model": "m", "benchmark": b} | place | tokens for b in names], schema_overrides=TOKENS)
    words = pl.DataFrame(
        [{"regime": "r", "benchmark": b} | place | dict(zip(SCORES, tokens.values(), strict=True)) for b in names],
        schema_overrides=dict.fromkeys(SCORES, pl.List(pl.Float64)),
    )
    benchmarks = {"styles": {"kind": "rm-bench", "hub": "a/b"}, "others": {"kind": "synthetic", "per_task": 1}}
    for mode, expected in (("strict", (1, 0)), ("same-style", (3, 100 * 2 / 3))):
        settings = {"ablation": {"sweep_benchmarks": []}, "analysis": {"rm_bench": mode}, "benchmarks": benchmarks}
        study = Study.model_validate(SETTINGS | settings)
        figures = PairFigures(study, BOOTSTRAP, FRAME, lengths, words, FRAME, FRAME)
        table = surface(BOOTSTRAP, figures.rules).select("benchmark", "rule", "n_comparisons", "accuracy_mean")
        found = {(benchmark, rule): (n, mean) for benchmark, rule, n, mean in table.rows()}
        for rule in ("longer", "words:r"):
            assert found["styles", rule] == pytest.approx(expected) and found["others", rule] == (1, 0)


def test_scores_of_words_that_differ_in_their_last_digits_are_no_tie() -> None:
    place = {"benchmark": "bench", "comparison_id": "a", "orientation": "helpful", "task": "t"}
    words = pl.DataFrame([{"regime": "r", "chosen_scores": [0.5 + 1e-12], "rejected_scores": [0.5]} | place])
    assert surface(BOOTSTRAP, ruled(LENGTHS.clear(), words))["accuracy_mean"].to_list() == [100]


def test_leads_and_shares_over_tasks() -> None:
    rng = np.random.default_rng(3)
    names = {f"t{i}": "helpful" if i < 7 else "harmless" for i in range(13)}
    keys = pl.DataFrame([{"model": "m", "first": "helpful", "second": "harmless", "orientation": o, "task": t}
                         for t, o in names.items()])  # fmt: skip
    lead = rng.normal(size=(13, 31)).round(1)
    shares = pl.DataFrame([{"model": "m", "orientation": o, "task": t, "share": float(i // 2)}
                           for i, (t, o) in enumerate(names.items())])  # fmt: skip
    figure = lead_correlations(BOOTSTRAP, Draws(keys, lead), shares)
    for tasks, n in (("all", 13), ("helpful", 7), ("harmless", 6)):
        rows = [i for i, o in enumerate(names.values()) if tasks in ("all", o)]
        found = figure.filter(tasks=tasks)
        assert found.keys["n_tasks"].to_list() == [n]
        share = shares["share"].to_numpy()[rows]
        assert found.values[0, 0] == pytest.approx(spearmanr(lead[rows, 0], share).statistic)
        drawn = np.random.default_rng([0, zlib.crc32(f"tasks {tasks}".encode())]).integers(n, size=(30, n))[8]
        assert found.values[0, 9] == pytest.approx(spearmanr(lead[rows, 9][drawn], share[drawn]).statistic)


@pytest.mark.parametrize(("n", "known"), [(5, False), (6, True)])
def test_five_tasks_have_no_correlation(n: int, known: bool) -> None:
    """However well they are in order."""
    tasks = [f"t{i}" for i in range(n)]
    keys = pl.DataFrame({"model": "m", "first": "f", "second": "s", "orientation": "helpful", "task": tasks})
    shares = pl.DataFrame(
        {"model": "m", "orientation": "helpful", "task": tasks, "share": [float(i) for i in range(n)]}
    )
    figure = lead_correlations(BOOTSTRAP, Draws(keys, np.tile(np.arange(n)[:, None], (1, 31)).astype(float)), shares)
    assert figure.keys["n_tasks"].unique().to_list() == [n]
    assert figure.values[:, 0] == pytest.approx(1) if known else np.isnan(figure.values).all()


def test_activations_of_a_set_and_length() -> None:
    rng = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for ablation, task, i, response in product(("own", "random"), ("a", "b"), range(9), ("chosen", "rejected")):
        n = int(rng.integers(0, 5))
        rows.append({"model": "m", "regime": "r", "seed": 0, "ablation": ablation, "comparison_id": f"{task}/{i}",
                     "orientation": "helpful", "task": task, "response": response, "n_tokens": n,
                     "mean": rng.normal() if n else None})  # fmt: skip
    texts = pl.DataFrame(rows)
    figure = set_correlations(BOOTSTRAP, texts, "bench")
    for ablation in ("own", "random"):
        known = texts.filter(ablation=ablation).drop_nulls()
        found, ranked = figure.filter(ablation=ablation).values[0], known.select(pl.col("n_tokens", "mean").rank())
        assert found[0] == pytest.approx(spearmanr(known["n_tokens"], known["mean"]).statistic)
        count = {f"{task}/{i}": n for task in ("a", "b") for i, n in enumerate(times(9, task, 11))}
        repeated = np.repeat(np.arange(len(known)), [count[c] for c in known["comparison_id"]])
        assert found[11] == pytest.approx(np.corrcoef(ranked.to_numpy()[repeated].T)[0, 1])
