"""Products of gradients against explicit gradients of every parameter, text by text; and a model of known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, GATED, NEURONS, WEIGHTS, WORDS, plain, two_families
from torch import Tensor
from torch.nn.functional import logsigmoid

from rmtension.base.errors import UserError
from rmtension.engine.conflict import SCHEMA, conflict, halves, mean_gradient, neuron_conflicts
from rmtension.engine.packing import pack
from rmtension.engine.reward_model import load_reward_model, load_tokenizer, pack_comparisons
from rmtension.study.stages import Conflict

CPU = torch.device("cpu")
PAIRS = {
    "helpful": [("w1 w2 w3", "w1 w2 w4 w9"), ("w5", "w6 w7"), (" ".join(WORDS[1:30]), " ".join(WORDS[1:28]) + " w7")],
    "harmless": [("w8 w2", "w8 w9 w3"), ("w4 w4", "w4"), ("w11 w12", "w13 w14"), ("w3 w1", "w2 w1")],
}


def written(folder: Path, pairs: dict[str, list[tuple[str, str]]]) -> dict[str, Path]:
    files = {}
    for name, of in pairs.items():
        rows = [(f"{name}/{i}", *sides, name, name) for i, sides in enumerate(of)]
        frame = pl.DataFrame(rows, ["comparison_id", "chosen", "rejected", "source", "orientation"], orient="row")
        files[name] = folder.with_name(f"{name}.parquet")
        frame.write_parquet(files[name])
    return files


def naive_reward(model: Any, ids: list[int]) -> Tensor:
    with plain(model):
        states = model.base_model(torch.tensor([ids])).last_hidden_state
    reward: Tensor = model.score(states[0, -1])[0]
    return reward


def naive_gradient(model: Any, family: str, tokenizer: Any, pairs: list[tuple[str, str]]) -> dict[tuple[int, int], Any]:
    """Layer and neuron -> the mean over pairs of the gradients of all its weights, float64, each pair by itself."""
    total: dict[str, Tensor] = {}
    for texts in pairs:
        model.zero_grad()
        chosen, rejected = (naive_reward(model, tokenizer(text)["input_ids"]) for text in texts)
        (-logsigmoid(chosen - rejected)).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, 0) + parameter.grad.double() / len(pairs)
    places: dict[tuple[int, int], list[Tensor]] = {}
    for name, gradient in total.items():
        for ending, axis in WEIGHTS.get(family, GATED).items():
            if name.endswith(ending):
                layer = next(int(part) for part in name.split(".") if part.isdigit())
                for i, of_neuron in enumerate(gradient.unbind(axis)):
                    places.setdefault((layer, i % NEURONS), []).append(of_neuron.flatten())
    return {place: torch.cat(parts).numpy() for place, parts in places.items()}


@pytest.mark.parametrize("budget", [1000, 9])
def test_products_are_those_of_every_parameters_gradient(budget: int, folder: Path, family: str) -> None:
    files, settings = written(folder, PAIRS), Conflict(seed=3)
    found = conflict(folder, files, [("helpful", "harmless")], settings, 512, budget, CPU)
    assert found.schema == SCHEMA
    tokenizer, model = load_tokenizer(folder), load_reward_model(folder, CPU).double()
    split = {name: halves(len(of), 3) for name, of in PAIRS.items()}
    h1, h2, s1, s2 = (
        naive_gradient(model, family, tokenizer, [PAIRS[name][i] for i in half])
        for name in PAIRS for half in split[name]
    )  # fmt: skip
    h, s = (naive_gradient(model, family, tokenizer, of) for of in PAIRS.values())
    assert found.select("layer", "neuron").rows() == sorted(h) and len(h) == 3 * NEURONS
    scale = max(float(h[place] @ h[place] + s[place] @ s[place]) for place in h)
    for row in found.iter_rows(named=True):
        place = row["layer"], row["neuron"]
        a, b, c, d, g, k = (one[place] for one in (h1, h2, s1, s2, h, s))
        expected = {
            "first_first": a @ b,
            "second_second": c @ d,
            "first_second": (a @ c + a @ d + b @ c + b @ d) / 4,
            "square": g @ g + k @ k,
            "opposed": sum(x * x + y * y for x, y in zip(g, k, strict=True) if x * y < 0),
        }
        assert {name: row[name] / scale for name in expected} == pytest.approx(
            {name: value / scale for name, value in expected.items()}, abs=1e-5
        )


def test_gradients_are_of_the_neurons_weights_alone(model: Any) -> None:
    pairs = [pack([np.array([1, 2, 3])], [np.array([1, 2])])]
    mean_gradient(model, pairs, 99, CPU)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning and all("mlp." in name for name in learning)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_halves_hold_every_pair_once() -> None:
    one, other = halves(7, 0)
    assert sorted(one + other) == [*range(7)] and (len(one), len(other)) == (4, 3)
    assert halves(7, 0) == (one, other) != halves(7, 1)


def cosine(found: pl.DataFrame) -> float:
    sums = found.select(pl.col("first_second", "first_first", "second_second").sum()).row(0, named=True)
    return float(sums["first_second"] / np.sqrt(sums["first_first"] * sums["second_second"]))


@pytest.mark.parametrize("family", ["gpt2"])
def test_an_objective_agrees_with_itself_and_opposes_its_reverse(folder: Path) -> None:
    """Of one pair four times both halves are alike: there is no noise."""
    pairs = PAIRS["helpful"][:1] * 4
    turned = [(rejected, chosen) for chosen, rejected in pairs]
    tokenizer, model = load_tokenizer(folder), load_reward_model(folder, CPU)
    with torch.no_grad():
        model.score.weight.mul_(1e-4)  # then the pair pulls as hard either way
    objectives = {
        name: pack_comparisons(tokenizer, [[a] for a, _ in of], [[b] for _, b in of], 99)[1]
        for name, of in {"one": pairs, "same": pairs, "turned": turned}.items()
    }
    two = [("one", "same"), ("one", "turned")]
    same, opposite = neuron_conflicts(model, objectives, two, 0, 999, CPU).partition_by("second")
    assert (cosine(same), cosine(opposite)) == pytest.approx((1, -1), abs=1e-5)
    assert same["opposed"].sum() == 0
    assert opposite["opposed"].sum() == pytest.approx(opposite["square"].sum(), rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2"])
def test_pairs_are_drawn_by_the_seed_and_two_are_needed(folder: Path, family: str) -> None:
    too_long = " ".join(["w5"] * (CONFIGS[family].max_position_embeddings + 1))
    files = written(folder, PAIRS | {"long": [("w1", "w2"), ("w1", too_long)]})
    two = [("helpful", "harmless")]
    drawn = [
        conflict(folder, {n: files[n] for n in PAIRS}, two, s, 512, 99, CPU)["square"].sum()
        for s in (Conflict(max_pairs=2), Conflict(max_pairs=2, seed=1), Conflict(max_pairs=4), Conflict())
    ]
    assert len({*drawn}) == 3 and drawn[2] == drawn[3]
    with pytest.raises(UserError, match=r"long.parquet: 1 pairs within training.max_tokens = 512 .* two or more"):
        conflict(folder, {"long": files["long"]}, [("long", "long")], Conflict(), 512, 99, CPU)


@two_families
def test_gradients_that_are_no_number_are_one_line(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({name: t.sign() * 3e38 if "mlp" in name else t for name, t in tensors.items()}, file, {"format": "pt"})
    with pytest.raises(UserError, match=f"^{folder}: its gradients are not finite: train it anew"):
        conflict(folder, written(folder, PAIRS), [("helpful", "harmless")], Conflict(), 512, 99, CPU)
