"""The benchmarks' harness: what differs is not timed, and what is counted is what is computed."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_models import CONFIGS, random_model, save_backbone
from torch import nn
from transformers.pytorch_utils import Conv1D

from benchmarks import ablation, attribution, differences, harness, limit, statistics, train, workloads
from benchmarks.growth import made
from benchmarks.harness import Side
from rmtension.base.errors import UserError
from rmtension.data.comparisons import PAIRS, as_comparisons
from rmtension.engine.packing import batches
from rmtension.engine.reward_model import hidden_states, load_tokenizer, new_reward_model, save_reward_model
from rmtension.running.amounts import size_of

TURNS = {"ours": [(1, 1), (3, 1)], "theirs": [(8, 2), (12, 2)], "limit": [(1, 0), (1, 0)]}
SIDES = [Side("ours", "", {}), Side("theirs", "", {}, goal=4), Side("limit", "", {}, compared=False)]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Side -> what it computes; their turns are made up."""
    computed: dict[str, Any] = {name: {"score": np.array([1.0, 2.0])} for name in ("ours", "theirs")} | {"limit": {}}
    left = {name: list(turns) for name, turns in TURNS.items()}

    def take_turn(side: Side, *_: object) -> tuple[dict[str, Any], Any]:
        seconds, load = left[side.name].pop(0)
        took = {"seconds": seconds, "load_seconds": load, "operations": {"ours": 30, "limit": 20}.get(side.name, 0)}
        others = dict.fromkeys(("import_seconds", "peak_memory", "peak_gpu_memory", "tokens"), 0)
        return took | others | {"gpu": None, "versions": {}}, computed[side.name]

    monkeypatch.setattr(harness, "take_turn", take_turn)
    return computed


@pytest.mark.parametrize(
    ("theirs", "fault"),
    [({"score": np.array([1.0, 2.1])}, "up to 0.1"), ({"score": np.ones(3)}, "shape"), ({}, "shape"),
     ({"score": np.array([1.0, np.nan])}, "nan")],
)  # fmt: skip
def test_sides_that_disagree_write_nothing(theirs: Any, fault: str, scores: dict[str, Any], tmp_path: Path) -> None:
    scores["theirs"] = theirs
    chosen = Namespace(device="cpu", threads=1, rounds=2, results=tmp_path)
    with pytest.raises(UserError, match=f"^theirs: 'score'.*{fault}"):
        harness.compare("b", SIDES, chosen, {}, tolerance=1e-3)
    assert not list(tmp_path.iterdir())


def test_a_line_holds_the_ratio_of_the_middle_turns(scores: dict[str, Any], tmp_path: Path) -> None:
    scores["theirs"] = {"score": np.array([1.0, 2.0005])}
    chosen = Namespace(device="cpu", threads=1, rounds=2, results=tmp_path)
    harness.compare("b", SIDES, chosen, {}, tolerance=1e-3, limit_goal=0.7)
    [line] = [json.loads(text) for text in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert line["ratios"] == {"theirs": 5}
    assert line["sides"]["ours"]["seconds"] == [1, 3]
    assert line["sides"]["theirs"]["difference"] == pytest.approx(0.0005)
    assert (line["limit"]["rate"], line["limit"]["share"]) == (15, 0.75)


def test_useful_operations_are_those_of_linear_layers_and_of_what_the_mask_shows(family: str) -> None:
    """Counted on a forward pass: every product, and every pair of a token and one that it may see."""
    model, counted = random_model(family), 0

    def count(module: nn.Module, inputs: tuple[Any, ...], _output: object) -> None:
        nonlocal counted
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        counted += 2 * inputs[0].numel() // inputs[0].shape[-1] * weight.numel()

    for module in model.base_model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            module.register_forward_hook(count)
    comparisons = made(3, length=10, candidates=4, vocabulary=50)
    [batch] = batches(comparisons, budget=1000)
    hidden_states(model, batch)
    config = CONFIGS[family]
    seen = 0
    for one in comparisons:
        key, query = one.segments[None, :], one.segments[:, None]
        seen += int(np.tril((key == 0) | (key == query)).sum())
    attention = 4 * config.num_hidden_layers * config.hidden_size * seen
    # Norms and biases are parameters too: few in a real model, more in this one.
    of_weights = 2 * size_of(config).computing * batch.tokens.numel()
    assert counted < of_weights < 1.2 * counted
    assert workloads.useful_operations(config, comparisons) == of_weights + attention
    linear = sum(limit.products(torch.ones(1, w.shape[1]), w, torch.ones(1, w.shape[0]), False)
                 for w in limit.weights(model))  # fmt: skip
    assert linear * batch.tokens.numel() == counted


def test_two_runs_are_compared_but_for_times_and_code(tmp_path: Path) -> None:
    rows = {"task": ["a", "b"], "chosen_scores": [[0.5, 1.0], [None]], "fingerprint": ["x", "y"], "n": [1, 2]}
    changes: dict[str, dict[str, Any]] = {
        "same": {"fingerprint": ["z", "z"]},
        "moved": {"chosen_scores": [[0.5, 1.25], [None]], "n": [1, 3]},
        "scored": {"chosen_scores": [[0.5, 1.0], [2.0]], "task": ["a", "c"]},
        "longer": {"chosen_scores": [[0.5], [1.0, None]]},
        "typed": {"n": [1.0, 2.0]},
    }
    for run in ("before", "after"):
        for name, change in changes.items():
            file = tmp_path / run / "scores" / f"{name}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pl.DataFrame(rows | (change if run == "after" else {})).write_parquet(file)
    (tmp_path / "after" / "scores" / "typed.parquet").rename(tmp_path / "after" / "new.parquet")
    assert list(differences.compare(tmp_path / "before", tmp_path / "after")) == [
        f"new.parquet: only {tmp_path / 'after'} has it",
        "scores/longer.parquet: chosen_scores: lists of other lengths",
        "scores/moved.parquet: chosen_scores: 1 of 3, by 0.25 at most",
        "scores/moved.parquet: n: 1 of 2",
        "scores/scored.parquet: task: 1 of 2",
        "scores/scored.parquet: chosen_scores: 1 of 3",
        f"scores/typed.parquet: only {tmp_path / 'before'} has it",
    ]
    [typed] = differences.differences(pl.DataFrame({"n": [1]}), pl.DataFrame({"n": [1.0]}))
    assert typed == "1 rows of {'n': Int64}, now 1 rows of {'n': Float64}"


def test_our_side_of_every_benchmark_runs(tmp_path: Path) -> None:
    save_backbone("llama", tmp_path / "backbone")
    tokenizer = load_tokenizer(tmp_path / "backbone")
    save_reward_model(new_reward_model(tmp_path / "backbone", 0, 0.02), tokenizer, tmp_path / "reward-model")
    texts = {side: [f"\n\nHuman: {i}?\n\nAssistant: {side} {i}" for i in range(16)] for side in ("chosen", "rejected")}
    pairs = pl.DataFrame({name: texts.get(name, [str(i) for i in range(16)]) for name in PAIRS}, PAIRS)
    as_comparisons(pairs).write_parquet(tmp_path / "pairs.parquet")
    sets = pl.DataFrame({"ablation": "a", "unit": "neuron", "layer": [0, 1], "neuron": [3, 1]})
    sets.write_parquet(tmp_path / "sets.parquet")
    job: dict[str, Any] = {
        "reward_model": str(tmp_path / "reward-model"),
        "comparisons": str(tmp_path / "pairs.parquet"),
    }
    done = [
        ablation.ours(**job, selected=str(tmp_path / "sets.parquet"), ablations=["none", "a"], budget=400),
        attribution.ours(**job, budget=400),
        statistics.ours(**job, backbone=str(tmp_path / "backbone"), budget=400),
        statistics.ours_alone(**job, budget=400),
        train.ours(**job, budget=400),
        train.ours(**job, budget=400, memory="lean"),
    ]
    assert all(one.tokens > 0 and np.isfinite(values).all() for one in done for values in one.values.values())
