"""Attributions against plain transformers models, each text alone, and against what a neuron's change does."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, VOCABULARY, block, head_size, plain, random_model
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.data.comparisons import PAIRS
from rmtension.engine.activations import packed_pairs
from rmtension.engine.architectures import activation_modules, layer_sizes
from rmtension.engine.attribution import SCHEMA, attributions, reward_model_attributions
from rmtension.engine.packing import Tokens, pack
from rmtension.study.stages import Activations

CPU = torch.device("cpu")
long = np.random.default_rng(0).integers(0, VOCABULARY, 40)
TEXTS = [
    tuple(np.array(text, dtype=np.int64) for text in texts)
    for texts in [
        ([1, 2, 3], [1, 2, 4, 9, 9]),  # a shared prefix
        ([1, 2, 3, 4], [1, 2, 3]),  # the rejected text is itself the prefix
        ([7, 8], [7, 8, 5]),  # so is the chosen one
        ([5], [6, 7]),  # none shared
        ([3, 3], [3, 3]),  # nothing of their own
        ([4, 0], [4, 0, 0]),  # the padding token
        (long, [*long[:30], 1, 2]),
    ]
]
every_family = pytest.mark.parametrize("family", sorted(CONFIGS))


def naive_margin(model: Any, chosen: Tokens, rejected: Tokens) -> Tensor:
    """Of two texts, each alone in transformers' own attention."""
    with plain(model):
        states = [model.base_model(torch.from_numpy(text)[None]).last_hidden_state for text in (chosen, rejected)]
    margin: Tensor = (model.score(states[0][0, -1]) - model.score(states[1][0, -1])).sum()
    return margin


def by_weights(model: Any, weights: list[Any], margin: Tensor) -> Tensor:
    """[layers, units]: how a margin changes with the length of all weights that read a unit, which are its value's."""
    parameters = [weight if weight.is_leaf else weight._base for weight in weights]  # or views of them, turned
    gradients = torch.autograd.grad(margin, parameters, retain_graph=True)
    products = [p * g for p, g in zip(parameters, gradients, strict=True)]
    turned = [one if p is w else one.T for one, p, w in zip(products, parameters, weights, strict=True)]
    return torch.stack([one.sum(1) for one in turned])


def naive_attributions(model: Any, chosen: Tokens, rejected: Tokens) -> tuple[Tensor, Tensor]:
    """Of one pair [layers, neurons] and [layers, heads], without a hook."""
    model.requires_grad_(True)
    blocks = [block(model, layer) for layer in range(model.config.num_hidden_layers)]
    margin = naive_margin(model, chosen, rejected)
    of_heads = by_weights(model, [one.from_heads for one in blocks], margin).unflatten(1, (-1, head_size(model))).sum(2)
    return by_weights(model, [one.from_neurons for one in blocks], margin), of_heads


def values(found: pl.DataFrame, unit: str, column: str, model: Any) -> Tensor:
    """[layers, units], after all are there in order."""
    layers, neurons, heads = layer_sizes(model.config)
    size = neurons if unit == "neuron" else heads
    one = found.filter(unit=unit)
    assert one.select("layer", "neuron").rows() == [(layer, n) for layer in range(layers) for n in range(size)]
    return one[column].to_torch().reshape(layers, size)


@every_family
@pytest.mark.parametrize("budget", [1, 20, 1000])
def test_they_are_those_of_each_pair_alone(budget: int, family: str) -> None:
    model = random_model(family)
    found = attributions(model, [pack([a], [b]) for a, b in TEXTS], budget, CPU)
    assert found.schema == SCHEMA and found["n_pairs"].unique().to_list() == [len(TEXTS)]
    by_pair = [naive_attributions(model, *texts) for texts in TEXTS]
    for unit, of_pairs in zip(("neuron", "head"), zip(*by_pair, strict=True), strict=True):
        naive = torch.stack(of_pairs).double()
        for column, expected in {"attribution": naive.mean(0), "attribution_abs": naive.abs().mean(0)}.items():
            torch.testing.assert_close(values(found, unit, column, model), expected, atol=1e-5, rtol=0)


@every_family
def test_they_are_what_a_little_less_of_a_unit_does_to_the_margin(family: str) -> None:
    model, (chosen, rejected), less = random_model(family).double(), TEXTS[-1], 1e-2
    found = attributions(model, [pack([chosen], [rejected])], 1000, CPU)

    @torch.no_grad()
    def margin(unit: str, layer: int, index: int, share: float) -> float:
        """With that share of a unit's values in place of all of them."""
        scale = torch.ones(model.config.num_attention_heads, head_size(model)).double()
        if unit == "head":
            scale[index] = share
            hook = block(model, layer).projection.register_forward_pre_hook(lambda _m, x: (x[0] * scale.flatten(),))
        else:
            scale = torch.ones(layer_sizes(model.config)[1]).double()
            scale[index] = share
            hook = activation_modules(model)[layer].register_forward_hook(lambda _m, _i, x: x * scale)
        with hook:
            return naive_margin(model, chosen, rejected).item()

    strongest = [found.filter(unit=unit).top_k(4, by=pl.col("attribution").abs()) for unit in ("neuron", "head")]
    for unit, layer, index, _, attribution, _ in pl.concat(strongest).rows():
        effect = (margin(unit, layer, index, 1 + less) - margin(unit, layer, index, 1 - less)) / (2 * less)
        assert abs(attribution) > 0.01 and effect == pytest.approx(attribution, rel=0.01)


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_pass_leaves_nothing_behind(family: str) -> None:
    """Nor does another pass add to it: no hook, no gradient, no activation."""
    model, pairs = random_model(family), [pack([a], [b]) for a, b in TEXTS]
    first = attributions(model, pairs, 50, CPU)
    gc.collect()
    gc.disable()
    try:
        held = sum(issubclass(type(one), Tensor) for one in gc.get_objects())
        assert attributions(model, pairs, 50, CPU).equals(first)
        assert sum(issubclass(type(one), Tensor) for one in gc.get_objects()) == held
    finally:
        gc.enable()
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("family", ["gpt2"])
def test_too_long_pairs_are_left_out_and_what_is_no_number_is_one_line(folder: Path, tmp_path: Path) -> None:
    rows = [(f"w{i} w1", f"w{i} w2 w3") for i in range(20)] + [("w1", " ".join(["w5"] * 30))]
    of_all = dict.fromkeys(PAIRS, "x") | {"chosen": [c for c, _ in rows], "rejected": [r for _, r in rows]}
    file, most = tmp_path / "pairs.parquet", Activations(max_pairs=7)
    pl.DataFrame(of_all, PAIRS).write_parquet(file)
    found = reward_model_attributions(folder, file, Activations(), max_tokens=29, budget=99, device=CPU)
    assert found["n_pairs"].unique().to_list() == [20]
    assert len(packed_pairs(folder, CONFIGS["gpt2"], file, most, 30)) == 7
    weights = folder / "model.safetensors"
    save_file({name: t.sign() * 3e38 if "mlp" in name else t for name, t in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match=f"^{folder}: its attributions are not finite: train it anew"):
        reward_model_attributions(folder, file, most, max_tokens=29, budget=99, device=CPU)
