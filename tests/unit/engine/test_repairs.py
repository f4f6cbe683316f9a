"""Training in which two objectives come together by projection, or beside neurons that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
import torch
from tiny_models import NEURONS, block, pairs, random_model, texts, two_families
from torch import Tensor

from rmtension.engine import training
from rmtension.engine.checkpoints import save
from rmtension.engine.learner import Learner
from rmtension.engine.packing import Packed, pack
from rmtension.engine.repairs import Frozen, Projected, shares_left
from rmtension.engine.steps import learning_rate, steps
from rmtension.engine.training import Trainer, TrainingRun
from rmtension.study.stages import Training

SETTINGS = Training(learning_rate=3e-3, pairs_per_step=4, evaluation_interval=2, gradient_clip=0.1)
LAST = SETTINGS.model_copy(update={"keep": "last"})
Gradients = list[Tensor]


def turned(pair: Packed) -> Packed:
    """The same pair for the opposite objective."""
    chosen, rejected = (text.numpy() for text in texts(pair))
    return pack([rejected], [chosen])


# Of two objectives: the second likes what the first one does not in half of its pairs.
FIRST, SECOND = pairs(11, 0), [turned(pair) if i % 2 else pair for i, pair in enumerate(pairs(9, 1))]
BOTH, OBJECTIVES = [*FIRST, *SECOND], ["one"] * len(FIRST) + ["other"] * len(SECOND)
HELD = pl.DataFrame({"layer": [0, 0, 2], "neuron": [3, 17, 23]})


def loss_gradients(model: Any, share: Sequence[Packed], n: int) -> Gradients:
    """Of the share of the mean loss over n pairs, a text at a time."""
    losses = []
    for pair in share:
        chosen, rejected = (model.score(model.base_model(t[None]).last_hidden_state[0, -1]) for t in texts(pair))
        losses.append(torch.log1p(torch.exp(rejected - chosen)))
    return list(torch.autograd.grad(torch.cat(losses).sum() / n, list(model.parameters())))


def inner(one: Gradients, other: Gradients) -> Tensor:
    return torch.dot(torch.cat([g.flatten() for g in one]), torch.cat([g.flatten() for g in other]))


def surgery(gradients: list[Gradients], order: Sequence[int]) -> Gradients:
    """Algorithm 1 of the paper: each, in turn, loses its part against each other one as that was."""
    projected = []
    for i in order:
        mine = gradients[i]
        for j in (j for j in order if j != i):
            against = inner(mine, gradients[j])
            if against < 0:
                factor = against / inner(gradients[j], gradients[j])
                mine = [m - factor * g for m, g in zip(mine, gradients[j], strict=True)]
        projected.append(mine)
    return [sum(each) for each in zip(*projected, strict=True)]


def plainly_trained(model: Any, gradients: Callable[[list[int]], Gradients]) -> Any:
    """Two epochs of the plan that Trainer has with seed 3."""
    optimizer, plan = torch.optim.AdamW(model.parameters(), weight_decay=0.0), steps(len(BOTH), 4, 2, 3)
    for number, index in enumerate(plan):
        for parameter, gradient in zip(model.parameters(), gradients(index), strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.gradient_clip)
        optimizer.param_groups[0]["lr"] = learning_rate(number, len(plan), SETTINGS.learning_rate)
        optimizer.step()
    return model


def trained(model: Any, learner: Any, folder: Path) -> Trainer:
    trainer = Trainer(model, LAST, epochs=2, seed=3, budget=40, learner=learner)
    trainer.fit(BOTH, FIRST, folder / "checkpoint", "key", minutes=1000)
    return trainer


def assert_scores_alike(one: Any, other: Any) -> None:
    """Not weights: GPT-2's key biases change no score, and AdamW makes noise of their gradients' noise."""
    with torch.no_grad():
        for text in (t for pair in BOTH for t in texts(pair)):
            a, b = (m.score(m.base_model(text[None]).last_hidden_state[0, -1]) for m in (one, other))
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


# --- projected ------------------------------------------------------------------------------------------------


# Projection knows no family: one with biases, and one without.
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_conflicting_gradients_are_projected_as_in_the_paper_in_either_order(
    family: str, order: tuple[int, int], tmp_path: Path
) -> None:
    ours, plain = random_model(family).double(), random_model(family).double()
    conflicts = list[bool | None]()

    def gradients(index: list[int]) -> Gradients:
        shares = [[BOTH[i] for i in index if OBJECTIVES[i] == objective] for objective in ("one", "other")]
        parts = [loss_gradients(plain, share, len(index)) for share in shares if share]
        conflicts.append(bool(inner(*parts) < 0) if len(parts) == 2 else None)
        return surgery(parts, order[: len(parts)]) if len(parts) == 2 else parts[0]

    plainly_trained(plain, gradients)
    assert set(conflicts) >= {True, False}
    trainer = trained(ours, partial(Projected, OBJECTIVES), tmp_path)
    assert_scores_alike(ours, plain)
    joint = random_model(family).double()
    expected = trained(joint, Learner, tmp_path)
    log = trainer.log()
    assert log.select("step", "tokens").equals(expected.log().select("step", "tokens"))
    assert log["loss"][0] == pytest.approx(expected.log()["loss"][0], abs=1e-12)
    with pytest.raises(AssertionError):
        assert_scores_alike(ours, joint)


def one_step(learner: Any, train: list[Packed]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights before and after a step on all pairs."""
    model = random_model("gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = Trainer(model, LAST, epochs=1, seed=0, budget=1000, learner=learner).learner
    made.step(train, range(len(train)), 1e-3)
    return before, model.state_dict()


def test_one_objective_twice_changes_nothing() -> None:
    """Up to the order of a sum: AdamW's first step is the sign of a gradient wherever that is more than rounding."""
    twice = partial(Projected, ["one", "other"] * 4)
    same = [pair for pair in FIRST[:4] for _ in range(2)]
    (_, ours), (_, joint) = one_step(twice, same), one_step(Learner, same)
    moved = torch.cat([(ours[name] - joint[name]).abs().flatten() for name in ours])
    assert moved.quantile(0.99) < 1e-6 < 1e-3


def test_a_step_of_one_objective_is_an_ordinary_one() -> None:
    (_, ours), (_, joint) = one_step(partial(Projected, ["one"] * 11), FIRST), one_step(Learner, FIRST)
    assert all(torch.equal(ours[name], joint[name]) for name in joint)


def test_opposed_objectives_stand_still() -> None:
    for pair in FIRST:
        before, after = one_step(partial(Projected, ["one", "other"]), [pair, turned(pair)])
        assert all(torch.equal(before[name], after[name]) for name in before)
        before, after = one_step(Learner, [pair, turned(pair)])
        assert not all(torch.equal(before[name], after[name]) for name in before)


def test_shares_left_are_those_of_gradients_by_hand() -> None:
    g, h = np.array([3.0, 0.0]), np.array([-1.0, 2.0])
    a, b = shares_left(g @ g, h @ h, g @ h)
    np.testing.assert_allclose(a * g + b * h, np.array([2.4, 1.2]) + np.array([0.0, 2.0]))
    assert shares_left(9, 5, 0) == shares_left(9, 5, 3) == shares_left(0, 5, 0) == (1, 1)
    assert shares_left(4, 9, -6) == (0, 0)


# --- frozen ---------------------------------------------------------------------------------------------------


def weights_of(model: Any, layer: int, neuron: int) -> list[Tensor]:
    """Views of what comes into a neuron and goes out of it, found without the engine's adapters."""
    place: Any = block(model, layer)
    into = [place.before.weight.T if model.config.model_type == "gpt2" else place.before.weight]
    modules: dict[str, Any] = dict(model.named_modules())
    gated = modules.get(f"model.layers.{layer}.mlp.up_proj")
    into += [gated.weight] if gated else []
    into = [part for weight in into for part in weight.split(NEURONS)]
    into += [place.before.bias[:, None]] if place.before.bias is not None else []
    return [*(weight[neuron] for weight in into), place.from_neurons[neuron]]


@two_families
def test_frozen_neurons_keep_their_weights_to_the_bit_and_the_rest_learns(family: str, tmp_path: Path) -> None:
    ours, untrained = random_model(family), random_model(family)
    trained(ours, partial(Frozen, HELD), tmp_path)
    for layer in range(3):
        held = HELD.filter(layer=layer)["neuron"].to_list()
        for neuron in range(24):
            assert len(weights_of(ours, layer, neuron)) == 3
            for now, before in zip(*(weights_of(m, layer, neuron) for m in (ours, untrained)), strict=True):
                assert now.numpy(force=True).tobytes() == before.numpy(force=True).tobytes() or neuron not in held
                assert not torch.equal(now, before) or neuron in held
    joint = random_model(family)
    trained(joint, Learner, tmp_path)
    stood_still = (
        [name for name, value in untrained.named_parameters() if torch.equal(value, model.get_parameter(name))]
        for model in (ours, joint)
    )
    assert next(stood_still) == next(stood_still)  # such as a last bias, which both texts of a pair get alike


def test_frozen_equals_a_plain_loop_without_those_gradients(family: str, tmp_path: Path) -> None:
    """Left out before clipping: what is held does not count for the norm."""
    ours, plain = random_model(family).double(), random_model(family).double()
    trained(ours, partial(Frozen, HELD), tmp_path)
    marked = random_model(family).double()
    with torch.no_grad():
        for layer, neuron in HELD.rows():
            for weight in weights_of(marked, layer, neuron):
                weight.fill_(torch.inf)
    free = [parameter.isfinite() for parameter in marked.parameters()]

    def gradients(index: list[int]) -> Gradients:
        whole = loss_gradients(plain, [BOTH[i] for i in index], len(index))
        return [gradient * kept for gradient, kept in zip(whole, free, strict=True)]

    plainly_trained(plain, gradients)
    assert_scores_alike(ours, plain)


# --- cut off and resumed --------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


def test_whose_pairs_they_are_is_part_of_what_a_run_is() -> None:
    """A checkpoint of the same pairs with other objectives is not gone on with."""
    place = Path("unread")
    runs = [TrainingRun(place, place, place, [], SETTINGS, 1, 0, 99, 1, method="projected", parts=["one", "other"],
                        objectives={"a": "one", "b": part}) for part in ("one", "other")]  # fmt: skip
    assert runs[0].making() != runs[1].making()


LEARNERS = {"projected": partial(Projected, OBJECTIVES), "frozen": partial(Frozen, HELD)}


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_killed_at_any_step_it_ends_with_the_same_bytes(learner: Any, tmp_path: Path) -> None:
    def run(checkpoint: Path, dies_in_step: int = 0) -> tuple[bytes, list[Any]]:
        trainer = Trainer(random_model("gpt2"), SETTINGS, epochs=2, seed=3, budget=40, learner=learner)
        step = trainer.learner.step

        def step_or_die(*work: Any) -> dict[str, Any]:
            if trainer.state.step + 1 == dies_in_step:
                raise KilledError
            return step(*work)

        with patch.object(trainer.learner, "step", step_or_die), patch.object(training, "save", save):
            kept = trainer.fit(BOTH, FIRST, checkpoint, "key", minutes=0)
        return b"".join(value.numpy().tobytes() for value in kept.values()), trainer.log().drop("seconds").rows()

    undisturbed = run(tmp_path / "undisturbed")
    for in_step in (2, 5, 10):
        with pytest.raises(KilledError):
            run(tmp_path / f"{in_step}", in_step)
        assert (tmp_path / f"{in_step}").exists()
        assert run(tmp_path / f"{in_step}") == undisturbed
