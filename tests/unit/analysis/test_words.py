"""The rule of words: against hand-made pairs, a loop over texts in plain Python, and another optimiser."""

from __future__ import annotations

import math
import runpy
from collections import Counter
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from rmtension.analysis.words import SCORES, STRENGTHS, WordModel, own_words
from rmtension.data.comparisons import PAIRS
from rmtension.data.synthetic import Orientation, preference_pairs
from rmtension.running import jobs

SCRIPT = Path(__file__).parents[3] / "workflow" / "scripts" / "words.py"
ASKED = "\n\nHuman: May I?\n\nAssistant:"
TEXTS = {"chosen": pl.List(pl.String), "rejected": pl.List(pl.String)}


def pairs(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame([([chosen], [rejected]) for chosen, rejected in rows], TEXTS, orient="row")


def made(objective: Orientation, n: int, seed: int) -> pl.DataFrame:
    frame = preference_pairs(objective, n, seed)
    return frame.select(pl.concat_list("chosen"), pl.concat_list("rejected"))


def weights_of(model: WordModel) -> dict[str, float]:
    return dict(zip(model.words.feature_names_, model.weights.tolist(), strict=True))


def logs(words: list[str]) -> dict[str, float]:
    return {word: math.log(1 + n) for word, n in Counter(words).items()}


def test_words_are_letters_in_lower_case_and_what_all_begin_with_is_no_ones_own() -> None:
    texts = [
        f"{ASKED} Sure, don't run.",
        f"{ASKED} Sure: DON\N{RIGHT SINGLE QUOTATION MARK}T\nrun 2 'miles'_Été",
        f"{ASKED} SURE",
    ]
    assert own_words(texts) == [["don't", "run"], ["don't", "run", "miles", "été"], []]
    assert own_words(["Human: a", "human, b"]) == [["a"], ["b"]]
    assert own_words([ASKED, "", ASKED]) == [["human", "may", "i", "assistant"], [], ["human", "may", "i", "assistant"]]
    assert own_words([ASKED] * 2) == [[], []]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=2, max_size=4))
def test_the_shared_words_are_as_many_as_a_loop_finds(words: list[list[str]]) -> None:
    shared = 0
    while all(len(of) > shared and of[shared] == words[0][shared] for of in words):
        shared += 1
    assert own_words([" ".join(of) for of in words]) == [of[shared:] for of in words]


def test_the_one_word_that_decides_has_the_weight() -> None:
    rows = [(f"{ASKED} yes, the {thing}", f"{ASKED} no, the {thing}") for thing in ("cat", "dog", "tree", "house")]
    model = WordModel.fitted(pairs(*rows[:3]), pairs(rows[3]))
    found = weights_of(model)
    assert found["yes"] == pytest.approx(-found["no"]) and found["yes"] > 0
    assert all(abs(found[thing]) < 1e-6 for thing in ("the", "cat", "dog", "tree")) and "house" not in found
    several = [("c", [f"{ASKED} yes yes", f"{ASKED} yes"], [f"{ASKED} maybe", f"{ASKED} no"])]
    scores = model.scores(pl.DataFrame(several, {"id": pl.String, **TEXTS}, orient="row"))
    assert scores.schema == {"id": pl.String, **SCORES}
    log2, log3 = math.log(2), math.log(3)
    assert scores["chosen_scores"][0].to_list() == pytest.approx([found["yes"] * log3, found["yes"] * log2])
    assert scores["rejected_scores"][0].to_list() == pytest.approx([0, found["no"] * log2])


@pytest.mark.parametrize("objective", ["helpful", "harmless"])
def test_weights_are_those_of_another_optimiser_and_the_strength_that_validation_likes_best(
    objective: Orientation,
) -> None:
    train, validation = made(objective, 80, 0), made(objective, 20, 1)
    model = WordModel.fitted(train, validation)

    def differences(frame: pl.DataFrame) -> list[dict[str, float]]:
        found = []
        for [chosen], [rejected] in frame.rows():
            one, other = map(logs, own_words([chosen, rejected]))
            found.append({word: one.get(word, 0) - other.get(word, 0) for word in {*one, *other}})
        return found

    words = sorted({word for pair in differences(train) for word in pair})
    assert model.words.feature_names_ == words
    dense = [
        np.array([[pair.get(word, 0) for word in words] for pair in differences(part)]) for part in (train, validation)
    ]

    def fit(strength: float) -> tuple[float, np.ndarray]:
        def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
            margins = dense[0] @ w
            gradient = w - strength * dense[0].T @ (1 / (1 + np.exp(margins)))
            return w @ w / 2 + strength * np.log1p(np.exp(-margins)).sum(), gradient

        w = minimize(loss, np.zeros(len(words)), jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 0}).x
        return float(np.log1p(np.exp(-dense[1] @ w)).mean()), w

    best = min(map(fit, STRENGTHS), key=lambda one: one[0])[1]
    np.testing.assert_allclose(model.weights, best, atol=1e-4 * abs(best).max())
    scores = model.scores(validation.with_row_index())
    for row, [chosen], [rejected] in zip(
        scores.iter_rows(named=True), validation["chosen"], validation["rejected"], strict=True
    ):
        own = own_words([chosen, rejected])
        naive = [sum(weights_of(model).get(word, 0) * log for word, log in logs(of).items()) for of in own]
        assert row["chosen_scores"] + row["rejected_scores"] == pytest.approx(naive, abs=1e-9)


def test_equal_data_give_equal_bytes_on_any_number_of_threads() -> None:
    """With more words than a linear-algebra library leaves to one thread."""
    rng = np.random.default_rng(0)
    names = np.array([f"{a}{b}{c}{d}" for a, b, c, d in product("abcdefghijkl", repeat=4)])
    rows = [(" ".join(rng.choice(names, 60)), " ".join(rng.choice(names, 60))) for _ in range(900)]
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(WordModel.fitted(pairs(*rows[:800]), pairs(*rows[800:])).weights)
    assert len(found[0]) > 15_000
    assert found[0].tobytes() == found[1].tobytes()


NOTHING = {
    "no words at all": pairs((f"{ASKED} 1", f"{ASKED} 2"), (f"{ASKED} !", f"{ASKED} ?")),
    "all texts equal": pairs((f"{ASKED} a", f"{ASKED} a"), (f"{ASKED} b", f"{ASKED} b")),
    "the same words in another order": pairs((f"{ASKED} a b", f"{ASKED} b a")),
    "empty texts": pairs(("", "")),
}


@pytest.mark.parametrize("case", NOTHING)
def test_where_nothing_can_be_fitted_all_scores_are_zero(case: str, caplog: pytest.LogCaptureFixture) -> None:
    model = WordModel.fitted(NOTHING[case], pairs((f"{ASKED} a", f"{ASKED} b")))
    assert "no word tells chosen texts from rejected ones: all scores are zero" in caplog.text
    scores = model.scores(pairs((f"{ASKED} a", f"{ASKED} b"), ("", f"{ASKED} a")).with_row_index())
    assert scores["chosen_scores"].to_list() == scores["rejected_scores"].to_list() == [[0.0], [0.0]]


def test_one_pair_is_enough_and_validation_may_have_no_known_word() -> None:
    """Under every strength validation is as likely: the strongest penalty."""
    model = WordModel.fitted(pairs((f"{ASKED} yes", f"{ASKED} no")), pairs((f"{ASKED} red", f"{ASKED} blue")))
    assert weights_of(model)["yes"] == pytest.approx(STRENGTHS[0] * math.log(2) / 2, rel=1e-3)


def test_what_is_judged_changes_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "start", lambda _: SimpleNamespace(finish=lambda: None))
    words = {name: pl.lit(name) for name in ("source", "orientation")}
    for split, seed in (("train", 0), ("validation", 1), ("test", 2), ("other", 3)):
        frame = preference_pairs("helpful", 30, seed).with_columns(
            comparison_id=pl.format("{}", pl.int_range(30)), **words
        )
        frame.select(*PAIRS).write_parquet(tmp_path / f"{split}.parquet")

    def scores(own: str) -> pl.DataFrame:
        snakemake = SimpleNamespace(
            input=SimpleNamespace(
                train=str(tmp_path / "train.parquet"), validation=str(tmp_path / "validation.parquet")
            ),
            params=SimpleNamespace(
                settings={"judged": {"first": [str(tmp_path / "test.parquet")], "own": [str(tmp_path / own)]}}
            ),
            output=[str(tmp_path / "out.parquet")],
        )
        runpy.run_path(str(SCRIPT), init_globals={"snakemake": snakemake})
        return pl.read_parquet(tmp_path / "out.parquet")

    one, other = scores("test.parquet"), scores("other.parquet")
    assert one.filter(benchmark="first").equals(other.filter(benchmark="first"))
    assert not one.filter(benchmark="own").equals(other.filter(benchmark="own"))
    assert one.drop("benchmark", *SCORES).columns == ["comparison_id", "task", "orientation"]
