"""Mean activations of sets against the plain transformers model, one text and one neuron at a time."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, WORDS, plain_activations, two_families
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmtension.base.errors import UserError
from rmtension.engine.set_activations import SCHEMA, set_activations

CPU = torch.device("cpu")
SETS = {"main": [(0, 3), (2, 4), (2, 5)], "other": [(1, 1)]}
SELECTED = pl.DataFrame(
    [(name, "neuron", *place) for name, places in SETS.items() for place in places],
    schema=["ablation", "unit", "layer", "neuron"],
    orient="row",
)
TEXTS = [
    ("w1 w2 w3", "w1 w2 w4 w9 w9"),
    ("w1 w2 w3 w4", "w1 w2 w3"),
    ("w5", "w6 w7"),
    ("w3 w3", "w3 w3"),
    (" ".join(WORDS[1:30]), " ".join(WORDS[1:28]) + " w7"),
]


def pairs(texts: list[tuple[str, str]]) -> pl.DataFrame:
    rows = [(f"s/test/{i}", "s", "helpful", [chosen], [rejected]) for i, (chosen, rejected) in enumerate(texts)]
    return pl.DataFrame(rows, ["comparison_id", "task", "orientation", "chosen", "rejected"], orient="row")


@pytest.mark.parametrize(("is_signed", "budget"), [(True, 1000), (False, 1000), (False, 9)])
def test_means_are_those_of_each_text_and_neuron_alone(is_signed: bool, budget: int, folder: Path) -> None:
    found = set_activations(folder, pairs(TEXTS), SELECTED, [*SETS], is_signed, budget, CPU)
    assert found.schema == SCHEMA
    names = [f"s/test/{i}" for i in range(len(TEXTS))]
    keys = [(name, response, of) for of, name, response in product(SETS, names, ("chosen", "rejected"))]
    assert found.select("comparison_id", "response", "ablation").rows() == keys
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    rows = found.iter_rows(named=True)
    for places, texts in product(SETS.values(), TEXTS):
        ids = [tokenizer(text)["input_ids"] for text in texts]
        shared = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
        for text in ids:
            row, values = next(rows), plain_activations(model, torch.tensor(text)).double()
            of_set = [float(values[layer, t, neuron]) for layer, neuron in places for t in range(shared, len(text))]
            assert row["n_tokens"] == len(text) - shared
            if not of_set:
                assert row["mean"] is None
            else:
                assert row["mean"] == pytest.approx(np.mean(of_set if is_signed else np.abs(of_set)), abs=1e-6)


@two_families
def test_what_cannot_be_read_is_null(folder: Path, family: str, caplog: pytest.LogCaptureFixture) -> None:
    too_long = " ".join(["w5"] * (CONFIGS[family].max_position_embeddings + 1))
    rows = [("w1", too_long), ("w1 w2", "w1 w3"), ("w1", "")]
    found = set_activations(folder, pairs(rows), SELECTED, ["main"], True, 99, CPU)
    assert found["n_tokens"].to_list() == [None, None, 1, 1, None, None]
    assert found["mean"].is_null().to_list() == [True, True, False, False, True, True]
    assert "2 of 3 comparisons have a text that is empty or longer than" in caplog.text
    nothing = set_activations(folder, pairs(rows[:1]), SELECTED, ["main", "other"], True, 99, CPU)
    assert nothing.schema == SCHEMA and len(nothing) == 4 and nothing["mean"].null_count() == 4


@two_families
def test_activations_that_are_no_number_are_one_line(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({name: t.sign() * 3e38 if "mlp" in name else t for name, t in tensors.items()}, file, {"format": "pt"})
    with pytest.raises(UserError, match=f"^{folder}: its activations are not finite: train it anew"):
        set_activations(folder, pairs(TEXTS), SELECTED, ["main"], True, 99, CPU)
