"""Lengths against each text tokenised by itself."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import polars as pl
import pytest
from tiny_models import save_backbone

from rmtension.engine import lengths as module
from rmtension.engine.lengths import lengths
from rmtension.engine.reading import load_reader
from rmtension.engine.reward_model import load_tokenizer

ASKED = "\n\nHuman: How do I wash a red shirt?\n\nAssistant:"
ROWS = [
    ([f"{ASKED} Cold."], [f"{ASKED} Cold water, and by itself the first time."]),
    ([f"{ASKED} Cold."], [f"{ASKED} Cold.", f"{ASKED} Warm water is well enough.", "Another question?"]),
    ([f"{ASKED} By hand.", f"{ASKED} By machine."], [f"{ASKED} By"]),
    ([f"{ASKED} All the same."], [f"{ASKED} All the same."]),
    ([f"{ASKED} An empty one beside it."], [""]),
    ([""], ["", ""]),
    ([f"{ASKED} " + "longer than any model here reads " * 500], [ASKED]),
]


@pytest.mark.parametrize("at_once", [1000, 2])
def test_lengths_are_those_of_each_text_alone(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    save_backbone("gpt2", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    comparisons = pl.DataFrame(ROWS, {"chosen": pl.List(pl.String), "rejected": pl.List(pl.String)}, orient="row")
    found = lengths(load_reader(tmp_path), comparisons.with_row_index("row"))
    assert found.columns == ["row", *module.COUNTS]
    for (chosen, rejected), row in zip(ROWS, found.iter_rows(named=True), strict=True):
        ids = {text: tokenizer(text)["input_ids"] for text in (*chosen, *rejected)}
        shared = len(list(takewhile(lambda same: len(set(same)) == 1, zip(*ids.values(), strict=False))))
        assert row["prefix_tokens"] == shared
        assert row["chosen_tokens"] == [len(ids[text]) - shared for text in chosen]
        assert row["rejected_tokens"] == [len(ids[text]) - shared for text in rejected]
    assert found["prefix_tokens"][0] > 5 and found["chosen_tokens"][6][0] > 2048
    assert found["rejected_tokens"][2].to_list() == [0], "it is what the others begin with"
