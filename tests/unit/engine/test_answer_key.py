"""What is planted is there, and what is said of it is true."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest
import torch
from torch.nn.functional import silu

from rmtension.analysis.answer_key import ANSWER_KEY
from rmtension.engine.activations import observed_neurons
from rmtension.engine.answer_key import answer_key
from rmtension.engine.packing import collate
from rmtension.engine.planted import CUES, FIRST_CUE, START, Planted, gate, pairs, planted_model
from rmtension.engine.reward_model import score
from rmtension.study.scorings import Neurons

SETTINGS = Planted.read()


def shares(tokens: list[int]) -> dict[str, float]:
    cues = {cue: tokens.count(FIRST_CUE + number) / len(tokens) for number, cue in enumerate(CUES)}
    return cues | {"length": tokens.count(START) / len(tokens)}


@pytest.mark.parametrize("objectives", [("helpful",), ("harmless",), ("helpful", "harmless")])
def test_a_planted_neurons_value_is_what_its_gate_makes_of_the_share(objectives: tuple[str, ...]) -> None:
    model, [pair, *_] = planted_model(SETTINGS, *objectives), pairs(SETTINGS, objectives[0], "test")
    batch = collate([pair], [0])
    values: dict[int, torch.Tensor] = {}
    with observed_neurons(model, values.__setitem__):
        score(model, batch)
    for number, end in enumerate(pair.ends):
        own = [int(t) for t, s in zip(pair.tokens, pair.segments, strict=True) if s in (0, number + 1)]
        has = shares(own)
        for kind in ("helpful", "harmless", "agreed", "opposed", "length"):
            likes = [SETTINGS.objectives[o][kind] for o in objectives if kind in SETTINGS.objectives[o]]
            found = torch.stack([values[layer][0, end, neuron] for layer, neuron in SETTINGS.places()[kind]])
            if not likes:
                assert found.abs().max() < 3  # background
                continue
            # Limit and gain are drawn: between their ends the gate is.
            sign = (sum(likes) > 0) - (sum(likes) < 0)
            reach = [gate(SETTINGS, kind, sign, limit, gain) for limit in (0.2, 0.8) for gain in (0.8, 1.2)]
            ends = torch.tensor([g.slope * (has[kind] - g.limit) for g in reach])
            least = (
                ends.min() if ends.min() > -1.28 or ends.max() < -1.28 else torch.tensor(-1.28)
            )  # where silu is least
            low, high = silu(least), max(silu(ends.min()), silu(ends.max()))
            assert (found >= low - 0.1).all() and (found <= high + 0.1).all()
            assert (found == 0).all() == (sign == 0)


def test_pairs_are_of_their_objective_and_reward_models_know_them() -> None:
    for name in SETTINGS.objectives:
        model, made = planted_model(SETTINGS, name), pairs(SETTINGS, name, "test")
        rewards = score(model, collate(made, range(len(made))))
        assert (rewards[0::2] > rewards[1::2]).float().mean() > 0.8
        assert len({tuple(pair.tokens) for pair in made}) == len(made)


@pytest.fixture(scope="module")
def key() -> Mapping[str, pl.DataFrame]:
    found = answer_key(SETTINGS._replace(repeats=2), Neurons())
    return {name: table(found) for name, table in ANSWER_KEY.items()}


def test_attribution_finds_what_is_planted_and_magnitude_what_is_loud(key: Mapping[str, pl.DataFrame]) -> None:
    share = {
        (row["reward_model"], row["scoring"], row["kind"]): row["share_mean"] for row in key["answer_key"].to_dicts()
    }
    for name in SETTINGS.objectives:
        assert share[name, "attribution", name] > 80 > 50 > share[name, "magnitude", name]
        assert share[name, "magnitude", "loud"] > 90 > 10 > share[name, "attribution", "loud"]
        other = next(o for o in SETTINGS.objectives if o != name)
        assert share[name, "attribution", other] < 20
    assert all(row["share_low"] <= row["share_mean"] <= row["share_high"] for row in key["answer_key"].to_dicts())


def test_effects_are_of_the_neurons_that_make_them(key: Mapping[str, pl.DataFrame]) -> None:
    rows = {(r["reward_model"], r["pairs"], r["kind"]): r for r in key["answer_key_effects"].to_dicts()}
    for name in SETTINGS.objectives:
        other = next(o for o in SETTINGS.objectives if o != name)
        for value in ("zeroed_mean", "averaged_mean"):
            assert rows[name, name, name][value] < -4 and abs(rows[name, name, other][value]) < 2.5
            assert rows[name, name, "loud"][value] == 0
        # The rest of the gap is what the other objective's neurons add, of which the donor has nothing to give.
        assert rows["both", name, "opposed"]["recovery_mean"] > 0.15
        assert abs(rows["both", name, "agreed"]["recovery_mean"]) < 0.05
    conflict = {kind: rows["both", "both", kind] for kind in ("agreed", "opposed")}
    assert conflict["opposed"]["cosine_mean"] < -0.3
    assert conflict["opposed"]["opposed_mean"] > 0.65 > 0.55 > conflict["agreed"]["opposed_mean"]
