"""The scores file: correctness, comparisons that cannot be scored, and reuse of what still holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tiny_models import CONFIGS, WORDS, two_families
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmtension.engine import evaluation
from rmtension.engine.evaluation import SCHEMA, evaluate
from rmtension.engine.passes import Halfway

CPU = torch.device("cpu")
SELECTED = pl.DataFrame(
    [("a", "neuron", 0, 3), ("a", "neuron", 2, 4), ("b", "neuron", 1, 1), ("heads", "head", 1, 1)],
    schema=["ablation", "unit", "layer", "neuron"],
    orient="row",
)
TWIN = SELECTED.filter(ablation="a").with_columns(ablation=pl.lit("twin")).reverse()


def comparisons(*rows: tuple[list[str], list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "comparison_id": [f"c{i}" for i in range(len(rows))],
            "task": ["t"] * len(rows),
            "orientation": ["helpful"] * len(rows),
            "chosen": [chosen for chosen, _ in rows],
            "rejected": [rejected for _, rejected in rows],
        }
    )


ROWS = comparisons(
    (["w1 w2 w3"], ["w1 w2 w4"]),
    (["w1 w2 w3 w4"], ["w1 w2 w3", "w9"]),
    (["w5 w6", "w5 w7"], ["w5 w8", "w5", "w9 w9 w9"]),
    (["w3 w3"], ["w3 w3"]),
    ([" ".join(WORDS[1:40])], [" ".join(WORDS[1:39])]),
)


def run(folder: Path, rows: pl.DataFrame, names: list[str], previous: pl.DataFrame | None = None, inputs: str = "x",
        budget: int = 50) -> pl.DataFrame:  # fmt: skip
    return evaluate(folder, rows, SELECTED, names, previous, inputs, budget, CPU)


def test_scores_are_those_of_transformers_alone(folder: Path) -> None:
    scores = run(folder, ROWS, ["none"])
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for row in scores.iter_rows(named=True):
        comparison = ROWS.filter(comparison_id=row["comparison_id"]).row(0, named=True)
        for side in ("chosen", "rejected"):
            for text, score in zip(comparison[side], row[f"{side}_scores"], strict=True):
                with torch.no_grad():
                    alone = model(**tokenizer(text, return_tensors="pt")).logits.item()
                assert score == pytest.approx(alone, abs=1e-5)


@two_families
def test_correct_is_strict_over_all_candidates(folder: Path) -> None:
    scores = run(folder, ROWS, ["none", "a"])
    assert scores.schema == SCHEMA
    assert scores["comparison_id"].to_list() == [f"c{i}" for i in range(5)] * 2
    for row in scores.iter_rows(named=True):
        assert row["correct"] == (min(row["chosen_scores"]) > max(row["rejected_scores"]))
    tie = scores.filter(comparison_id="c3", ablation="none").row(0, named=True)
    assert tie["chosen_scores"] == tie["rejected_scores"] and tie["correct"] is False


@two_families
def test_what_cannot_be_scored_is_kept_as_null(folder: Path, family: str) -> None:
    too_long = " ".join(["w5"] * (CONFIGS[family].max_position_embeddings + 1))
    rows = comparisons((["w1"], [too_long]), (["w1"], ["w2"]), (["w1"], [""]))
    scores = run(folder, rows, ["none", "b"])
    assert scores["correct"].is_null().to_list() == [True, False, True] * 2
    assert scores["chosen_scores"].is_null().to_list() == [True, False, True] * 2


@two_families
def test_an_ablation_without_neurons_changes_nothing(folder: Path) -> None:
    names = ["none", "empty", "a", "b", "heads"]
    scores = run(folder, ROWS, names)
    none, empty, *others = (scores.filter(ablation=name)["chosen_scores"].to_list() for name in names)
    assert none == empty
    assert len({str(values) for values in (none, *others)}) == 4, "a head is not the neuron of the same index"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of ablations in each call that computes scores; calls are added as they are made."""
    counts: list[int] = []
    compute = evaluation.compute

    def counting(folder, rows, masks, *how):  # type: ignore[no-untyped-def]
        counts.append(len(masks))
        return compute(folder, rows, masks, *how)

    monkeypatch.setattr(evaluation, "compute", counting)
    return counts


@two_families
def test_only_what_is_missing_is_computed(folder: Path, computed: list[int]) -> None:
    first = run(folder, ROWS, ["none", "a"])
    assert run(folder, ROWS, ["none", "a"], previous=first).equals(first)
    more = run(folder, ROWS, ["none", "b", "a", "heads"], previous=first)
    assert computed == [2, 2]
    assert more.equals(run(folder, ROWS, ["none", "b", "a", "heads"]))
    assert run(folder, ROWS, ["a"], previous=more).equals(first.filter(ablation="a"))
    computed.clear()
    run(folder, ROWS, ["none", "a"], previous=first, inputs="another model")
    assert computed == [2]
    computed.clear()
    evaluate(folder, ROWS, SELECTED[1:], ["none", "a", "b"], more, "x", 50, CPU)
    assert computed == [1], "a set of other neurons under the same name"


@two_families
def test_what_is_ablated_alike_is_computed_once(folder: Path, computed: list[int]) -> None:
    """Whatever its name: an empty set, the same neurons in another order, what an earlier file calls otherwise."""
    both = pl.concat([SELECTED, TWIN])
    scores = evaluate(folder, ROWS, both, ["none", "a", "empty", "twin"], None, "x", 50, CPU)
    assert computed == [2]
    assert scores["ablation"].unique(maintain_order=True).to_list() == ["none", "a", "empty", "twin"]
    assert evaluate(folder, ROWS, both, ["none", "a", "empty", "twin"], scores, "x", 50, CPU).equals(scores)
    for one, other in (("none", "empty"), ("a", "twin")):
        assert scores.filter(ablation=one).drop("ablation").equals(scores.filter(ablation=other).drop("ablation"))
    renamed = evaluate(folder, ROWS, both, ["empty", "twin"], run(folder, ROWS, ["none", "a"]), "x", 50, CPU)
    assert computed == [2, 2]
    assert renamed.equals(scores[10:])


MEANS = pl.DataFrame(
    [(layer, neuron, 0.5 - neuron - 10 * layer) for layer in range(3) for neuron in range(24)],
    schema=["layer", "neuron", "mean"],
    orient="row",
)


@two_families
def test_means_are_computed_beside_the_zeros_that_are_there(folder: Path, computed: list[int]) -> None:
    """Those of a set without neurons are no ablation, and only the means of a set's own neurons are its content."""
    zeros, means = ["none", "a", "heads", "empty"], ["a@mean", "b@mean", "empty@mean"]
    first = run(folder, ROWS, zeros)

    def with_means(previous: pl.DataFrame | None, replaced: pl.DataFrame = MEANS) -> pl.DataFrame:
        return evaluate(folder, ROWS, SELECTED, [*zeros, *means], previous, "x", 50, CPU, replaced)

    both = with_means(first)
    assert computed == [3, 2]
    assert both[: len(first)].equals(first) and both.equals(with_means(None))
    by_name = {name: rows["chosen_scores"].to_list() for (name,), rows in both.group_by("ablation")}
    assert by_name["empty@mean"] == by_name["none"] and by_name["a"] != by_name["a@mean"] != by_name["b@mean"]
    computed.clear()
    outside = (pl.col("layer") == 0) & (pl.col("neuron") == 4)
    assert with_means(both, MEANS.with_columns(mean=pl.col("mean") + outside)).equals(both) and computed == []
    inside = (pl.col("layer") == 1) & (pl.col("neuron") == 1)
    with_means(both, MEANS.with_columns(mean=pl.col("mean") + inside))
    assert computed == [1], "another mean of the one neuron of b"


# --- cut off and resumed --------------------------------------------------------------------------------------


class CutOffError(Exception):
    """As a signal that nothing can catch, but that a test can."""


class Batches:
    """Counts the batches that are scored; the one after `most` ends the run, and none of more than `room` tokens fits
    the memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scored, self.most, self.room, score = 0, 10**6, 10**6, evaluation.ablated_scores

        def counted(model: Any, masks: Any, batch: Any) -> torch.Tensor:
            if batch.tokens.numel() > self.room:
                raise torch.OutOfMemoryError
            if self.scored == self.most:
                raise CutOffError
            self.scored += 1
            return score(model, masks, batch)

        monkeypatch.setattr(evaluation, "ablated_scores", counted)

    def of(self, run: Callable[[], pl.DataFrame], most: int = 10**6) -> tuple[int, pl.DataFrame | None]:
        self.scored, self.most = 0, most
        try:
            found = run()
        except CutOffError:
            return self.scored, None
        return self.scored, found


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Batches:
    return Batches(monkeypatch)


MANY = comparisons(*ROWS.select("chosen", "rejected").rows()[:4], *[([f"w1 w{i}"], [f"w2 w{i} w3"]) for i in range(20)])


def halfway_run(folder: Path, file: Path, inputs: str = "x", minutes: float = 0) -> Callable[[], pl.DataFrame]:
    """Under three ablations, of which a checkpoint holds what each batch gives."""
    names, halfway = ["none", "a", "b"], Halfway(file, minutes)
    return lambda: evaluate(folder, MANY, SELECTED, names, None, inputs, 30, CPU, halfway=halfway)


@two_families
def test_a_scoring_that_was_cut_off_goes_on_and_ends_with_the_same_scores(
    folder: Path, tmp_path: Path, scored: Batches
) -> None:
    n, whole = scored.of(lambda: evaluate(folder, MANY, SELECTED, ["none", "a", "b"], None, "x", 30, CPU))
    assert n > 4 and whole is not None
    for cut in (1, n // 2, n - 1):
        file = tmp_path / f"{cut}.pt"
        assert scored.of(halfway_run(folder, file), cut) == (cut, None)
        left, found = scored.of(halfway_run(folder, file))
        assert left == n - cut and found is not None and found.equals(whole)
    assert scored.of(halfway_run(folder, tmp_path / "late.pt", minutes=9), 3)[0] == 3
    assert not (tmp_path / "late.pt").exists(), "no minute has passed"


@two_families
@pytest.mark.parametrize("what", ["other inputs", "damaged", "none of its own"])
def test_what_is_not_of_this_scoring_is_not_gone_on_from(
    what: str, folder: Path, tmp_path: Path, scored: Batches, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "halfway.pt"
    n, whole = scored.of(halfway_run(folder, file))
    scored.of(halfway_run(folder, file, "other" if what == "other inputs" else "x"), 2)
    if what == "damaged":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif what == "none of its own":
        file.write_text("something else")
    left, found = scored.of(halfway_run(folder, file))
    assert left == n and found is not None and whole is not None and found.equals(whole)
    assert "all starts over" in caplog.text


@two_families
def test_where_memory_did_not_suffice_a_scoring_goes_on_with_the_batches_that_fitted(
    folder: Path, tmp_path: Path, scored: Batches
) -> None:
    file, scored.room = tmp_path / "halfway.pt", 20
    of_all, whole = scored.of(halfway_run(folder, tmp_path / "whole.pt"))
    scored.of(halfway_run(folder, file), of_all - 2)
    left, found = scored.of(halfway_run(folder, file))
    assert left == 2 and found is not None and whole is not None and found.equals(whole)
