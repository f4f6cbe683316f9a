"""What single neurons read and do, against the plain transformers model, one text alone and one neuron at a time."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_models import WORDS, plain_activations, two_families
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmtension.base.errors import UserError
from rmtension.engine import passages
from rmtension.engine.architectures import activation_modules
from rmtension.engine.packing import collate, pack
from rmtension.engine.passages import PASSAGES, WITHOUT, Strongest, explore_neurons, token_texts

CPU = torch.device("cpu")
NEURONS = pl.DataFrame({"layer": [2, 0, 2], "neuron": [4, 3, 4]})  # one of them twice, in no order
RNG = np.random.default_rng(0)


def drawn(n: int) -> str:
    return " ".join(RNG.choice(WORDS[1:], n))


SIZES = [(3, 5, 9), (12, 20, 2), (1, 1, 3), (6, 3, 25), (9, 9, 1), (4, 30, 1)]  # of a prompt and its two responses
PROMPTS = [drawn(n) for n, *_ in SIZES]
TEXTS = [(f"{p} w1 {drawn(a)}", f"{p} w2 {drawn(b)}") for p, (_, a, b) in zip(PROMPTS, SIZES, strict=True)]
TEXTS += [("w1 w2", "w1 w2 w3"), (" ".join(WORDS[1:]) * 2, "w5")]  # without a token of its own; too long


def pairs(texts: list[tuple[str, str]]) -> pl.DataFrame:
    rows = [(f"s/test/{i}", "s", "helpful", [chosen], [rejected]) for i, (chosen, rejected) in enumerate(texts)]
    return pl.DataFrame(rows, ["comparison_id", "task", "orientation", "chosen", "rejected"], orient="row")


@pytest.mark.parametrize("budget", [1000, 40])
def test_passages_and_scores_are_those_of_each_text_alone(
    budget: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "BEFORE", 3)
    monkeypatch.setattr(passages, "AFTER", 2)
    table = pairs(TEXTS)
    found = explore_neurons(folder, table, NEURONS, most=2, budget=budget, device=CPU)
    assert found.passages.schema == PASSAGES and found.scores.schema == WITHOUT
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    for (layer, neuron), (side, response) in product([(0, 3), (2, 4)], enumerate(("chosen", "rejected"))):
        expected = []
        for of, texts in enumerate(TEXTS[:-1]):
            ids = [tokenizer(text)["input_ids"] for text in texts]
            shared = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
            values = plain_activations(model, torch.tensor(ids[side]))[layer, :, neuron].numpy()
            if shared < len(values):
                peak = shared + int(np.abs(values[shared:]).argmax())
                expected.append((-abs(values[peak]), of, peak, values, texts[side].split()))
        rows = found.passages.filter(layer=layer, neuron=neuron, response=response).to_dicts()
        assert [row["place"] for row in rows] == [1, 2]
        for row, (_, of, peak, values, words) in zip(rows, sorted(expected, key=lambda e: e[:2]), strict=False):
            start, end = max(0, peak - 3), peak + 3
            assert row["comparison_id"] == f"s/test/{of}"
            assert (row["start"], row["peak"], row["n_tokens"]) == (start, peak - start, len(words))
            assert "".join(row["tokens"]).split() == words[start:end]
            np.testing.assert_allclose(row["activations"], values[start:end], atol=1e-4)
            assert row["activation"] == row["activations"][row["peak"]]


@torch.no_grad()
def naive(model: Any, ids: list[int], place: tuple[int, int] | None) -> float:
    """The reward of one text alone, with one neuron at zero."""

    def at_zero(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[..., place[1] if place else 0] = 0
        return changed

    hooks = [activation_modules(model)[place[0]].register_forward_hook(at_zero)] if place else []
    reward = float(model(torch.tensor([ids])).logits[0, 0])
    for hook in hooks:
        hook.remove()
    return reward


def test_scores_without_a_neuron_are_those_of_the_plain_model(folder: Path) -> None:
    found = explore_neurons(folder, pairs(TEXTS), NEURONS, most=1, budget=99, device=CPU).scores
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    places = found.select("layer", "neuron").unique(maintain_order=True).rows()
    assert places == [(None, None), (0, 3), (2, 4)] and len(found) == 3 * len(TEXTS)
    for row, (place, texts) in zip(found.iter_rows(named=True), product(places, TEXTS), strict=True):
        if texts is TEXTS[-1]:
            assert row["chosen_scores"] is None and row["correct"] is None
            continue
        scores = [naive(model, tokenizer(text)["input_ids"], place if place[0] is not None else None) for text in texts]
        np.testing.assert_allclose([*row["chosen_scores"], *row["rejected_scores"]], scores, atol=1e-4)
        assert row["correct"] == (row["chosen_scores"][0] > row["rejected_scores"][0])


@two_families
def test_no_pair_that_can_be_read_is_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^mine: .*, which reads 64 tokens, can read none of these 1 pairs: take the"):
        explore_neurons(folder, pairs(TEXTS[-1:]), NEURONS, most=1, budget=99, device=CPU, place="mine")


def test_the_largest_absolute_value_counts_on_tokens_of_its_own() -> None:
    """Two comparisons, the shorter first in the batch; of each text the place and value of what is kept."""
    texts = [([7, 8, 1, 2], [7, 8, 3]), ([9, 4], [9, 5, 6])]
    comparisons = [pack([np.array(chosen)], [np.array(rejected)]) for chosen, rejected in texts]
    strongest, batch = Strongest(neurons=1, most=1), collate(comparisons, [1, 0])
    # 9 is shared, then 4; 5, 6; and 7, 8 are shared, then 1, 2; 3
    strongest.take(batch, torch.tensor([[9.0], [1.0], [2.0], [-3.0], [8.0], [-9.0], [0.5], [-4.0], [2.5]]))
    kept = {side: [(one.comparison, one.start + one.peak, one.activations[one.peak]) for one in passages]
            for side, passages in strongest.kept[0].items()}  # fmt: skip
    assert kept == {"chosen": [(0, 3, -4.0)], "rejected": [(1, 2, -3.0)]}


def test_a_text_that_is_passed_over_again_is_taken_once() -> None:
    """All are, when memory did not suffice for a batch after the first."""
    pair = pack([np.array([7, 1])], [np.array([7, 2])])
    strongest, batch = Strongest(neurons=1, most=2), collate([pair], [0])
    for _ in range(2):
        strongest.take(batch, torch.tensor([[1.0], [2.0], [3.0]]))
    assert [len(kept) for kept in strongest.kept[0].values()] == [1, 1]


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return bytes(ids).decode(errors="replace")


@pytest.mark.parametrize("text", ["plain", "é is two", "🙂🙂 four each", "ends in é"])
def test_a_character_of_several_tokens_stands_with_its_last(text: str) -> None:
    tokens = [*text.encode()]
    texts = token_texts(Bytes(), tokens)
    assert "".join(texts) == text and len(texts) == len(tokens)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(texts)
    assert token_texts(Bytes(), [*"é".encode()]) == ["", "é"]
