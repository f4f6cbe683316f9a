"""An ensemble's scores, against two lists made one by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from rmtension.base.errors import UserError
from rmtension.base.files import write_checksums
from rmtension.data.comparisons import read_comparisons
from rmtension.engine import evaluation
from rmtension.engine.ensemble import score_ensemble, spread, together
from rmtension.engine.evaluation import SCHEMA, evaluate, scoring_fingerprint
from rmtension.engine.reward_model import load_reward_model
from rmtension.neurons.ranking import NO_SETS

CPU = torch.device("cpu")


def scores(chosen: list[list[float] | None], rejected: list[list[float] | None], fingerprint: str,
           precision: str = "float32") -> pl.DataFrame:  # fmt: skip
    n = len(chosen)
    frame = pl.DataFrame(
        {"ablation": ["none"] * n, "comparison_id": [str(i) for i in range(n)], "task": ["t"] * n}
        | {"orientation": ["o"] * n, "chosen_scores": chosen, "rejected_scores": rejected}
        | {"correct": [None if c is None else True for c in chosen], "fingerprint": [fingerprint] * n}
        | {"precision": [None if c is None else precision for c in chosen]},
        schema=SCHEMA,
    )
    return frame


def test_a_spread_is_the_root_mean_square_of_margins_of_scored_pairs() -> None:
    pairs = scores([[3.0], [1.0], None], [[0.0], [5.0], None], "a")
    assert spread(pairs, "rm") == pytest.approx(((9 + 16) / 2) ** 0.5)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ([[1.0], [2.0]], "rewards every validation pair's two texts alike: it has no say"),
        ([None, None], "it can read none of the validation pairs"),
    ],
)
def test_without_a_spread_there_is_no_ensemble(chosen: list[list[float] | None], said: str) -> None:
    with pytest.raises(UserError, match=f"^rm: {said}"):
        spread(scores(chosen, chosen, "a"), "rm")


def test_scores_are_the_mean_of_both_in_units_of_their_spreads() -> None:
    one = scores([[4.0], [1.0, 2.0], None, [1.0]], [[2.0], [0.0], None, [0.0]], "a")
    other = scores([[-1.0], [10.0, 20.0], [1.0], [-5.0]], [[9.0], [0.0], [0.0], [5.0]], "b", "bfloat16")
    both = together([one, other], [2.0, 10.0])
    assert both.schema == pl.Schema(SCHEMA)
    assert both["precision"].to_list() == ["bfloat16", "bfloat16", None, "bfloat16"]
    assert both["chosen_scores"].to_list() == [
        [pytest.approx((4 / 2 - 1 / 10) / 2)], [pytest.approx(0.75), pytest.approx(1.5)], None, [pytest.approx(0.0)],
    ]  # fmt: skip
    assert both["rejected_scores"].to_list() == [[pytest.approx(0.95)], [0.0], None, [pytest.approx(0.25)]]
    # A tie is wrong, and of what one cannot score nothing is said.
    assert both["correct"].to_list() == [False, True, None, False]
    assert both["fingerprint"].n_unique() == 1
    assert together([one, other], [2.0, 9.0])["fingerprint"][0] != both["fingerprint"][0]
    assert both.select("ablation", "comparison_id", "task").equals(one.select("ablation", "comparison_id", "task"))


def written(file: Path, *pairs: tuple[str, str]) -> Path:
    """A file of comparisons of a chosen and a rejected text."""
    rows = [(f"c{row}", "t", "o", [chosen], [rejected]) for row, (chosen, rejected) in enumerate(pairs)]
    names = ["comparison_id", "task", "orientation", "chosen", "rejected"]
    pl.DataFrame(rows, names, orient="row").write_parquet(file)
    return file


@pytest.mark.parametrize("family", ["gemma3_text"], indirect=True)  # whose windows alternate by layer
def test_each_part_is_loaded_once_and_scores_as_one_that_is_loaded_for_each_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    save_file({k: w.flip(-1) * 3 if k.startswith("score") else w for k, w in weights.items()},
              other / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    parts, code = {"a": folder, "b": other}, [Path(__file__)]
    for part in parts.values():
        write_checksums(part)
    first = ("w1 w2 w3", "w1 w2 w4"), ("w5 w6 w7 w8 w9 w3 w1", "w5 w6"), ("w1", " ".join(["w5"] * 99))  # too long
    files = [
        written(tmp_path / "first.parquet", *first),
        written(tmp_path / "validation.parquet", ("w3 w2", "w3 w4 w9"), ("w7", "w8 w1 w2")),
        written(tmp_path / "last.parquet", ("w9 w9 w9", "w9")),
    ]

    def alone(part: Path, file: Path) -> pl.DataFrame:
        inputs = scoring_fingerprint(part, file, code, 50, 1, "float32", CPU)
        return evaluate(part, read_comparisons(file), NO_SETS, ["none"], None, inputs, 50, CPU)

    spreads = [spread(alone(part, files[1]), "") for part in parts.values()]
    expected = [together([alone(part, file) for part in parts.values()], spreads) for file in files]

    loaded: list[Path] = []

    def noting(place: Path, device: torch.device) -> Any:
        loaded.append(place)
        return load_reward_model(place, device)

    monkeypatch.setattr(evaluation, "load_reward_model", noting)
    scores, made = score_ensemble(parts, files, files[1], code, 50, 1, "float32", CPU)
    assert all(one.equals(two) for one, two in zip(scores, expected, strict=True))
    assert (made["parts"], made["spreads"], loaded) == (["a", "b"], spreads, [folder, other])
    assert made["spreads"][0] != made["spreads"][1] and scores[0]["correct"].null_count() == 1
