"""Claims about length and calibration on made results of which the right answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from example_results import MADE, SETTINGS, example
from scipy.special import expit

from rmtension.analysis.ledger import ledger
from rmtension.analysis.results import Results
from rmtension.analysis.tables import TABLES
from rmtension.study.study import Study

STUDY = Study.model_validate(
    SETTINGS
    | {"models": {"ape": {"source": MADE}}, "seeds": [1, 2, 3], "analysis": {"draws": 200}}
    | {"benchmarks": {"made": {"kind": "synthetic", "per_task": 4}}, "ablation": {"percent": 20, "sweep": []}}
    | {"patching": None, "conflict": None}
)
Row = dict[str, Any]
# Regime, where a comparison is helpful, whether the chosen response is longer (1) or shorter (-1), noise -> the reward
# of the chosen minus that of the rejected response.
Taste = Callable[[str, Any, Any, Any], Any]


def rows_of(study: Study, comparisons: pl.DataFrame, differences: dict[tuple[str, str], Any]) -> pl.DataFrame:
    """Scores of pairs whose differences are those of (regime, ablation), another draw of them for each seed."""
    parts = []
    for (regime, ablation), seed in product(differences, study.seeds):
        values = differences[regime, ablation][study.seeds.index(seed)]
        unit = {"model": "ape", "regime": regime, "seed": seed, "ablation": ablation}
        named = comparisons.with_columns(pl.lit(value).alias(key) for key, value in unit.items())
        chosen = pl.Series(values).reshape((-1, 1)).cast(pl.List(pl.Float64))
        zero = pl.lit([0.0], pl.List(pl.Float64))
        parts.append(named.with_columns(chosen_scores=chosen, rejected_scores=zero))
    return pl.concat(parts)


def judged(study: Study, names: list[str], **made: Any) -> pl.DataFrame:
    """The ledger of tables of these names, of an example whose frames are `made`, and of all others as empty ones."""
    lists = made["lists"]
    ends = {"chosen": pl.col("chosen_scores").list.min(), "rejected": pl.col("rejected_scores").list.max()}
    scores = lists.filter(ablation="none").with_columns(**ends).drop("chosen_scores", "rejected_scores")
    results: Results = replace(example(study), scores=[scores], **made)
    tables = {name: table(results) if name in names else empty()[name] for name, table in TABLES.items()}
    return ledger(tables, study)


@cache
def empty() -> dict[str, pl.DataFrame]:
    """Every table without a row. Made when it is asked for: each process of the tests reads this file."""
    results = example()
    return {name: table(results).clear() for name, table in TABLES.items()}


LENGTH = ["accuracy", "contrasts", "length_contrasts", "length_lead", "surface"]


def along_length(taste: Taste, study: Study = STUDY, n_tasks: int = 8, ahead: int = 3) -> pl.DataFrame:
    """Verdicts on tasks of 80 comparisons, of which the longer response wins more on helpful than on harmless ones;
    it is longer by so many tokens."""
    rng = np.random.default_rng(4)
    shares = {"helpful": np.linspace(0.4, 0.9, n_tasks), "harmless": np.linspace(0.1, 0.6, n_tasks)}
    tasks = [(o, f"{o} {i}", share) for o, several in shares.items() for i, share in enumerate(several)]
    place, sign = [], []
    for orientation, task, share in tasks:
        longer = np.where(np.arange(80) < 80 * share, 1, -1)
        sign += longer.tolist()
        place += [{"benchmark": "made", "comparison_id": f"{task}/{i}", "orientation": orientation, "task": task}
                  for i in range(80)]  # fmt: skip
    comparisons, signs = pl.DataFrame(place), np.array(sign)
    helpful = comparisons["orientation"].to_numpy() == "helpful"
    noise = rng.logistic(size=(3, len(study.seeds), len(signs)))
    differences = {(regime, "none"): taste(regime, helpful, signs, noise[i]) for i, regime in enumerate(study.regimes)}
    lengths = comparisons.with_columns(
        model=pl.lit("ape"),
        chosen_tokens=pl.Series(10 + ahead * signs).reshape((-1, 1)).cast(pl.List(pl.Int32)),
        rejected_tokens=pl.lit([10], pl.List(pl.Int32)),
    )
    one = pl.lit([1.0], pl.List(pl.Float64))
    words = comparisons.with_columns(regime=pl.lit("helpful"), chosen_scores=one, rejected_scores=one)
    return judged(study, LENGTH, lists=rows_of(study, comparisons, differences), lengths=lengths, words=words)


def direction(regime: str) -> int:
    """Helpful reward models like longer responses, harmless ones shorter ones, mixed ones neither."""
    return {"helpful": 1, "harmless": -1}.get(regime, 0)


def length_alone(regime: str, _helpful: Any, signs: Any, noise: Any) -> Any:
    return 1.5 * direction(regime) * signs + noise


def objective_alone(regime: str, helpful: Any, signs: Any, noise: Any) -> Any:
    return direction(regime) * np.where(helpful, 1, -1) + noise


def both(regime: str, helpful: Any, signs: Any, noise: Any) -> Any:
    return length_alone(regime, helpful, signs, objective_alone(regime, helpful, signs, noise))


# Of C1, C1 beside `length`, L1, L2, and L2 beside `half`.
ANSWERS: list[tuple[Taste, list[str]]] = [
    (length_alone, ["holds", "undecided", "holds", "undecided", "does not hold"]),
    (objective_alone, ["holds", "holds", "undecided", "holds", "holds"]),
    (both, ["holds", "holds", "holds", "holds", "undecided"]),
]


def verdicts(frame: pl.DataFrame) -> list[str]:
    whole = frame.filter(part="").rows_by_key("claim", named=True, unique=True)
    c1, l2 = whole["C1"], whole["L2"]
    return [c1["verdict"], c1["control_verdict"], whole["L1"]["verdict"], l2["verdict"], l2["control_verdict"]]


@pytest.mark.parametrize(("taste", "expected"), ANSWERS)
def test_length_alone_the_objective_alone_and_both_are_told_apart(taste: Taste, expected: list[str]) -> None:
    assert verdicts(along_length(taste)) == expected


ONE_SEED = Study.model_validate(STUDY.model_dump() | {"seeds": [1]})


@pytest.mark.parametrize(
    ("case", "lead", "balanced"),
    [
        ({"n_tasks": 1}, "no interval; fewer than 6 tasks", ""),
        ({"ahead": 0}, "no interval; fewer than 6 tasks, or all of one share", "no interval; fewer than 5 comparisons"),
        ({"n_tasks": 1, "study": ONE_SEED}, "; one seed: chance in training is not seen", "one seed"),
    ],
)
def test_too_little_to_go_by_is_undecided_with_a_note(case: dict[str, Any], lead: str, balanced: str) -> None:
    frame = along_length(length_alone, **case)
    assert set(frame.filter(pl.col("claim").is_in(["L1", "L2"]))["verdict"]) == {"undecided"}
    parts = frame.filter(pl.col("part") != "")
    assert parts.filter(pl.col("claim") == "L1", ~pl.col("note").str.contains(lead, literal=True)).is_empty()
    assert parts.filter(pl.col("claim") == "L2", ~pl.col("note").str.starts_with(balanced)).is_empty()


# --- calibration ----------------------------------------------------------------------------------------------


def nearly_the_same(truth: Any, rng: np.random.Generator) -> Any:
    """Of what is all alike nothing is decided."""
    return truth + rng.normal(scale=1e-2, size=truth.shape)


def compressed(truth: Any, rng: np.random.Generator) -> Any:
    return nearly_the_same(truth, rng) / 3


def noisy(truth: Any, rng: np.random.Generator) -> Any:
    return truth + rng.normal(scale=3, size=truth.shape)


def calibration(change: Callable[[Any, np.random.Generator], Any], study: Study = STUDY, sign: int = 1) -> pl.DataFrame:
    """K1 and K2 where parts are calibrated (of sign -1, always on the wrong side), and their scores changed are the
    mixed reward model's, and all scores changed those of the ablated ones."""
    rng = np.random.default_rng(7)
    frames = []
    for name, n in (("made", 1200), ("validation", 1000)):
        place = {"benchmark": name, "orientation": "helpful", "task": "split"}
        comparisons = pl.DataFrame([place | {"comparison_id": f"{name}/{i}"} for i in range(n)])
        margin = rng.normal(scale=2, size=n)
        truth = np.where(rng.random(n) < expit(margin), margin, -margin)
        truth = sign * truth + rng.normal(scale=0.05, size=(len(study.seeds), n))
        own = {r: (change(truth, rng) if study.regimes[r].mixes else truth) for r in study.regimes}
        scores = {(r, a): values if a == "none" else change(values, rng)
                  for (r, values), a in product(own.items(), ("none", "magnitude-p20"))}  # fmt: skip
        frames.append(rows_of(study, comparisons, scores))
    frame = judged(study, ["calibration", "calibration_contrasts"], lists=frames[0], validation=frames[1])
    return frame.filter(pl.col("claim").str.starts_with("K"))


def whole(frame: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Claim -> its verdict, and that of its controls."""
    rows = frame.filter(part="").select("claim", "verdict", "control_verdict").iter_rows()
    return {claim: (verdict, beside) for claim, verdict, beside in rows}


def test_scores_divided_by_three_come_back_and_noise_does_not() -> None:
    """Noise spoils calibration, too: only K2 tells the two apart."""
    assert whole(calibration(compressed)) == {"K1": ("holds", ""), "K2": ("holds", "holds")}
    assert whole(calibration(noisy)) == {"K1": ("holds", ""), "K2": ("does not hold", "holds")}
    # Nothing to come back from, and nothing worse.
    assert whole(calibration(nearly_the_same)) == {"K1": ("undecided", ""), "K2": ("holds", "undecided")}


def test_less_sure_is_not_worse_calibrated() -> None:
    """Parts and mixed ones are right as often as they say, the mixed ones rarely surely: they are no worse."""
    rng = np.random.default_rng(1)
    frames = []
    for name in ("made", "validation"):
        place = {"benchmark": name, "orientation": "helpful", "task": "split"}
        comparisons = pl.DataFrame([place | {"comparison_id": f"{name}/{i}"} for i in range(300)])
        scores = {}
        for regime, ablation in product(STUDY.regimes, ("none", "magnitude-p20")):
            sure = rng.normal(scale=0.5 if STUDY.regimes[regime].mixes else 4, size=(len(STUDY.seeds), 300))
            scores[regime, ablation] = np.where(rng.random(sure.shape) < expit(sure), sure, -sure)
        frames.append(rows_of(STUDY, comparisons, scores))
    frame = judged(STUDY, ["calibration_contrasts"], lists=frames[0], validation=frames[1])
    assert frame.filter(claim="K1")["verdict"].to_list() == ["undecided"] * 3


def test_what_is_no_better_than_a_coin_does_not_come_back_and_nothing_comes_back_to_it() -> None:
    """No temperature mends a reward model that prefers the wrong response; its note says that it has none."""
    parts = calibration(lambda truth, _: -truth).filter(pl.col("claim") == "K2", pl.col("part") != "")
    mixed = parts.filter(pl.col("part").str.starts_with("mixed against helpful"))
    assert set(mixed["verdict"]) == {"does not hold"}
    assert set(mixed["note"]) == {"mixed: 3 of 3 without a temperature"}
    own = parts.filter(pl.col("part").str.starts_with("mixed against unablated"))  # twice on the wrong side is right
    assert set(own["verdict"]) == {"undecided"} and own["estimate"].is_null().all()
    assert set(own["note"]) == {"no interval; no temperature; mixed: 3 of 3 without a temperature"}
