"""Patched scores against two plain transformers models, one text at a time."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tiny_models import CONFIGS, WORDS, random_model, two_families
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from rmtension.base.errors import UserError
from rmtension.engine.patching import SCHEMA, patch
from rmtension.engine.reward_model import load_tokenizer, save_reward_model

CPU = torch.device("cpu")
LAYERS, NEURONS = 3, 24
SETS = {
    "some": [(0, 3), (2, 4), (2, 5)],
    "again": [(0, 3), (2, 4), (2, 5)],
    "empty": [],
    "all": [*product(range(LAYERS), range(NEURONS))],
}
SELECTED = pl.DataFrame(
    [(name, "neuron", *place) for name, places in SETS.items() for place in places],
    schema=["ablation", "unit", "layer", "neuron"],
    orient="row",
)
TEXTS = [
    (["w1 w2 w3"], ["w1 w2 w4 w9 w9", "w7"]),
    (["w1 w2 w3 w4", "w1 w2"], ["w1 w2 w3"]),
    (["w5"], ["w6 w7"]),
    ([" ".join(WORDS[1:30])], [" ".join(WORDS[1:28]) + " w7"]),
]


def comparisons(texts: list[tuple[list[str], list[str]]]) -> pl.DataFrame:
    rows = [(f"b/{i}", "t", "helpful", *sides) for i, sides in enumerate(texts)]
    return pl.DataFrame(rows, ["comparison_id", "task", "orientation", "chosen", "rejected"], orient="row")


def activations(model: Any) -> list[nn.Module]:
    return [
        module
        for name, module in model.named_modules()
        if name.endswith(("mlp.act", "mlp.act_fn", "mlp.activation_fn"))
    ]


@torch.no_grad()
def naive(model: Any, donor: Any, places: list[tuple[int, int]], ids: list[int]) -> float:
    """The reward of one text, each neuron's value overwritten with what the donor has there."""
    given: list[Tensor] = []
    hooks = [a.register_forward_hook(lambda _m, _i, output: given.append(output.clone())) for a in activations(donor)]
    donor.base_model(torch.tensor([ids]))

    def overwrite(layer: int, output: Tensor) -> Tensor:
        for _, neuron in (place for place in places if place[0] == layer):
            output[..., neuron] = given[layer].view_as(output)[..., neuron]
        return output

    for layer, module in enumerate(activations(model)):
        hooks.append(module.register_forward_hook(lambda _m, _i, o, layer=layer: overwrite(layer, o.clone())))
    states = model.base_model(torch.tensor([ids])).last_hidden_state
    for hook in hooks:
        hook.remove()
    return float(model.score(states[0, -1]))


@pytest.fixture
def donors(folder: Path, family: str) -> dict[str, Path]:
    made = {name: folder.with_name(name) for name in ("helpful", "harmless")}
    for seed, place in enumerate(made.values(), start=1):
        save_reward_model(random_model(family, seed), load_tokenizer(folder), place)
    return made


@pytest.mark.parametrize("budget", [1000, 9])
def test_scores_are_those_of_two_plain_models(budget: int, folder: Path, donors: dict[str, Path]) -> None:
    found = patch(folder, donors, comparisons(TEXTS), SELECTED, [*SETS], budget, "float32", CPU)
    assert found.schema == SCHEMA
    ids = [f"b/{i}" for i in range(len(TEXTS))]
    assert found.select("donor", "ablation", "comparison_id").rows() == [*product(donors, SETS, ids)]
    tokenizer = load_tokenizer(folder)
    plain = {place: AutoModelForSequenceClassification.from_pretrained(place).eval()
             for place in (folder, *donors.values())}  # fmt: skip
    rows = found.iter_rows(named=True)
    for donor, places, (chosen, rejected) in product(donors.values(), SETS.values(), TEXTS):
        row = next(rows)
        ours = [*row["chosen_scores"], *row["rejected_scores"]]
        expected = [naive(plain[folder], plain[donor], places, tokenizer(t)["input_ids"]) for t in chosen + rejected]
        assert ours == pytest.approx(expected, abs=1e-4)
        assert row["correct"] == (min(row["chosen_scores"]) > max(row["rejected_scores"]))
    assert found.filter(ablation="some")["chosen_scores"].equals(found.filter(ablation="again")["chosen_scores"])


@two_families
def test_a_model_that_is_its_own_donor_is_as_it_was(folder: Path, donors: dict[str, Path]) -> None:
    itself = patch(
        folder, {"itself": folder}, comparisons(TEXTS), SELECTED, ["empty", "some", "all"], 1000, "float32", CPU
    )
    unpatched, *others = (part["chosen_scores"].to_list() for part in itself.partition_by("ablation"))
    assert others == [unpatched, unpatched]
    other = patch(folder, donors, comparisons(TEXTS), SELECTED, ["all"], 1000, "float32", CPU)
    assert unpatched not in [part["chosen_scores"].to_list() for part in other.partition_by("donor")]


@two_families
def test_what_cannot_be_read_is_null(folder: Path, family: str, caplog: pytest.LogCaptureFixture) -> None:
    too_long = " ".join(["w5"] * (CONFIGS[family].max_position_embeddings + 1))
    rows = [(["w1"], [too_long]), (["w1 w2"], ["w1 w3"])]
    found = patch(folder, {"itself": folder}, comparisons(rows), SELECTED, ["some"], 99, "float32", CPU)
    assert found["correct"].is_null().to_list() == found["chosen_scores"].is_null().to_list() == [True, False]
    assert "1 of 2 comparisons have a text that is empty or longer than" in caplog.text
    with pytest.raises(UserError, match=r"^mine\.parquet: .* none of these 1 comparisons: take their benchmark or"):
        patch(folder, {"itself": folder}, comparisons(rows[:1]), SELECTED, ["some"], 99, "float32", CPU, "mine.parquet")
