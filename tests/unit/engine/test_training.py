"""Training: its batches, its arithmetic against a plain loop, and resuming from a checkpoint."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import pairs, random_model, texts
from torch import Tensor, nn

from rmtension.base.checkpoints import write_checkpoint
from rmtension.base.errors import UserError
from rmtension.base.processes import together
from rmtension.engine import training
from rmtension.engine.ablation import Mask
from rmtension.engine.activations import activation_statistics
from rmtension.engine.checkpoints import State, resume, save
from rmtension.engine.evaluation import candidate_scores
from rmtension.engine.lean import Kept
from rmtension.engine.packing import Packed, pack
from rmtension.engine.placement import Replicated
from rmtension.engine.sharding import Sharded
from rmtension.engine.steps import shares, steps
from rmtension.engine.training import Trainer
from rmtension.study.stages import Training

SETTINGS = Training(learning_rate=3e-3, pairs_per_step=4, evaluation_interval=5, keep="last")


@given(n=st.integers(1, 40), per_step=st.integers(1, 16), epochs=st.integers(1, 3), seed=st.integers(0, 5))
def test_each_epoch_takes_every_pair_once_in_an_order_of_its_own(n: int, per_step: int, epochs: int, seed: int) -> None:
    plan = steps(n, per_step, epochs, seed)
    a_epoch = -(-n // per_step)
    assert len(plan) == a_epoch * epochs
    orders = [[i for step in plan[e * a_epoch : (e + 1) * a_epoch] for i in step] for e in range(epochs)]
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert all(len(step) == per_step for e in range(epochs) for step in plan[e * a_epoch : (e + 1) * a_epoch - 1])
    assert plan == steps(n, per_step, epochs, seed)
    if n > 20:
        assert plan != steps(n, per_step, epochs, seed + 1)
        assert len({tuple(order) for order in orders}) == epochs


class NaiveAdafactor:
    """Algorithm 4 of arXiv 1804.04235 with the decay of its algorithm 5 and steps of a given size, in numpy."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.rows, self.columns = ([0.0] * len(self.parameters) for _ in range(2))
        self.steps = 0

    def step(self, rate: float) -> None:
        self.steps += 1
        decay = 1 - self.steps**-0.8
        for i, parameter in enumerate(self.parameters):
            assert parameter.grad is not None
            weight, gradient = parameter.detach().numpy(), parameter.grad.numpy()
            squares = np.atleast_2d(gradient**2 + 1e-30)  # a vector is its own row of columns
            self.rows[i] = decay * self.rows[i] + (1 - decay) * squares.sum(1)
            self.columns[i] = decay * self.columns[i] + (1 - decay) * squares.sum(0)
            second = np.outer(self.rows[i], self.columns[i]) / np.sum(self.rows[i])
            update = gradient / np.sqrt(second).reshape(weight.shape)
            weight -= rate * update / max(1, np.sqrt(np.mean(update**2)))


class TorchAdamW:
    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self.optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)

    def step(self, rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()


@pytest.mark.parametrize(("memory", "plain"), [("full", TorchAdamW), ("lean", NaiveAdafactor)])
def test_equals_a_plain_loop(memory: str, plain: Any, family: str, tmp_path: Path) -> None:
    """Same weights as one text at a time, one backward a step, with torch's own optimiser or one in numpy."""
    train = pairs(10, seed=0)
    # In float64: either optimiser makes a step of any gradient, also of one that is all rounding.
    ours = random_model(family).double()
    trainer = Trainer(ours, SETTINGS.model_copy(update={"memory": memory}), epochs=2, seed=3, budget=40)
    trainer.fit(train, train, tmp_path / "c", "key")
    log = trainer.log()

    model = random_model(family).double()
    optimizer, plan = plain(model.parameters()), steps(10, 4, 2, 3)
    losses = []
    for number, index in enumerate(plan):
        margins = [
            torch.sub(*(model.score(model.base_model(t[None]).last_hidden_state[0, -1]) for t in texts(train[i])))
            for i in index
        ]
        loss = torch.log1p(torch.exp(-torch.cat(margins))).mean()
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(3e-3 * (1 - number / len(plan)))
        losses.append(loss.item())
    np.testing.assert_allclose(log["loss"], losses, atol=1e-5)
    # Scores and not weights: GPT-2's key biases change no score, and AdamW makes noise of their gradients' noise.
    with torch.no_grad():
        for text in (t for pair in train for t in texts(pair)):
            one, other = (m.score(m.base_model(text[None]).last_hidden_state[0, -1]) for m in (ours, model))
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert log["tokens"].sum() == 2 * sum(len(pair) for pair in train)


def is_in_a_file(tensor: Tensor) -> bool:
    """Whether its memory is that of a file that has no name."""
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("(deleted)")]
    ranges = [[int(end, 16) for end in of_one[0].split("-")] for of_one in maps]
    return any(start <= tensor.data_ptr() < end for start, end in ranges)


def test_lean_training_holds_little_beside_weights_and_gradients(tmp_path: Path) -> None:
    """Of a matrix a number for each row and column; the best weights in a file, though it has no name."""
    settings = BEST.model_copy(update={"memory": "lean"})
    lean = Trainer(random_model("gpt2"), settings, epochs=2, seed=0, budget=60)
    kept = lean.fit(TRAIN, HELD, tmp_path / "lean", "key")
    held = [value for of_one in lean.placed.optimizer.state_dict()["state"].values() for value in of_one.values()]
    numbers = sum(value.numel() if torch.is_tensor(value) else 1 for value in held)
    assert numbers == sum(sum(p.shape) + 2 for p in lean.placed.scorer.parameters())
    assert all(map(is_in_a_file, kept.values()))
    full = Trainer(random_model("gpt2"), BEST, epochs=2, seed=0, budget=60)
    full.fit(TRAIN, HELD, tmp_path / "full", "key")
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}  # of checkpoints, the best weights in both
    assert sizes.keys() == {"lean", "full"}
    assert sizes["full"] - sizes["lean"] > 7 * sum(p.numel() for p in lean.placed.scorer.parameters())  # 8, of moments


def test_lean_training_keeps_of_a_layer_its_input(family: str) -> None:
    """For the way back; gradients are the same to the bit."""
    kept, gradients = list[int](), list[list[Tensor]]()

    def count(tensor: Tensor) -> Tensor:
        kept[-1] += tensor.numel() * (not isinstance(tensor, nn.Parameter))
        return tensor

    for memory in ("full", "lean"):
        trainer = Trainer(random_model(family), SETTINGS.model_copy(update={"memory": memory}), 1, 0, budget=10**6)
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            trainer.learner.make_gradients(TRAIN, range(len(TRAIN)))
        gradients.append(trainer.placed.take_gradients())
    assert kept[1] < kept[0] / 4
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_learns_and_keeps_the_best_weights(tmp_path: Path) -> None:
    train, validation = pairs(60, seed=0), pairs(30, seed=1)
    model = random_model("gpt2")
    settings = SETTINGS.model_copy(update={"keep": "best"})
    trainer = Trainer(model, settings, epochs=6, seed=0, budget=200)
    model.load_state_dict(trainer.fit(train, validation, tmp_path / "c", "key"))
    log = trainer.log()
    loss, accuracy = trainer.learner.evaluate(validation)
    assert accuracy > 0.8
    assert loss == pytest.approx(log["validation_loss"].drop_nulls().min(), abs=1e-6)
    assert log["step"].to_list() == list(range(1, 91))


# --- cut off and resumed --------------------------------------------------------------------------------------

TRAIN, HELD = pairs(20, 0), pairs(8, 1)
BEST = SETTINGS.model_copy(update={"keep": "best", "evaluation_interval": 2})
STEPS = 10


class KilledError(Exception):
    pass


def train(
    checkpoint: Path,
    dies_in_step: int = 0,
    key: str = "key",
    dropout: float = 0,
    settings: Training = BEST,
    worsens: bool = False,
) -> tuple[bytes, list[Any]]:
    """Weights and log of a run that may die in a step, with a checkpoint of every third; where its validation only
    worsens, the weights are those of the first look."""
    model = random_model("gpt2", resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
    trainer = Trainer(model, settings, epochs=2, seed=0, budget=60)
    step = trainer.learner.step

    def step_or_die(pairs: Sequence[Packed], index: Sequence[int], rate: float) -> dict[str, Any]:
        if trainer.state.step + 1 == dies_in_step:
            raise KilledError
        return step(pairs, index, rate)

    def save_every_third(state: State, *where: Any) -> None:
        if state.step % 3 == 0:
            save(state, *where)

    def worse_every_time(_pairs: Sequence[Packed]) -> tuple[float, float]:
        return float(trainer.state.step), 0.5

    look = worse_every_time if worsens else trainer.learner.evaluate
    with (
        patch.multiple(trainer.learner, step=step_or_die, evaluate=look),
        patch.object(training, "save", save_every_third),
    ):
        kept = trainer.fit(TRAIN, HELD, checkpoint, key)
    return b"".join(value.numpy().tobytes() for value in kept.values()), trainer.log().drop("seconds").rows()


def train_and_die(checkpoint: Path, in_step: int, **how: Any) -> None:
    with pytest.raises(KilledError):
        train(checkpoint, in_step, **how)


@pytest.mark.parametrize("worsens", [False, True])
@pytest.mark.parametrize("memory", ["full", "lean"])
def test_a_run_killed_at_any_step_resumes_to_the_same_bytes(
    memory: str, worsens: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With dropout in the configuration too: none is active, so there is no random state to keep."""
    caplog.set_level("INFO")
    how: dict[str, Any] = {"settings": BEST.model_copy(update={"memory": memory}), "worsens": worsens}
    undisturbed = train(tmp_path / "undisturbed", **how)
    for in_step in range(2, STEPS + 1):
        checkpoint = tmp_path / f"{in_step}"
        train_and_die(checkpoint, in_step, dropout=0.5, **how)
        assert [file.name for file in tmp_path.glob(f"*{in_step}*")] == [f"{in_step}"] * (in_step > 3)
        torch.rand(in_step)  # another random state
        assert train(checkpoint, dropout=0.5, **how) == undisturbed
        assert (f"resuming after step {(in_step - 1) // 3 * 3} from {checkpoint}" in caplog.text) == (in_step > 3)


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def without_a_field(file: Path) -> None:
    """As another version would write it."""
    content = torch.load(file, weights_only=True)
    del content["best_loss"]
    write_checkpoint(content, file)


def with_code(file: Path) -> None:
    """A whole file, that runs code where it is unpickled."""
    write_checkpoint({"key": Bomb(file.with_name("exploded"))}, file)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "not as it was written"),
    "cut to nothing": (lambda file: file.write_bytes(b""), "not as it was written"),
    "garbage": (lambda file: file.write_text("garbage" * 99), "not as it was written"),
    "a byte in a tensor": (lambda file: flip(file, file.stat().st_size // 2), "not as it was written"),
    "the last byte": (lambda file: flip(file, -1), "not as it was written"),
    "the first byte": (lambda file: flip(file, 0), "not as it was written"),
    "another version": (without_a_field, "another version"),
    "code": (with_code, "Weights only load failed"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_checkpoint_is_refused_and_said_so(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_and_die(tmp_path / "c", 5)
    inflict, said = DAMAGES[damage]
    inflict(tmp_path / "c")
    assert train(tmp_path / "c") == train(tmp_path / "d")
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "all starts over" in warning and said in warning and "\n" not in warning
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_and_die(tmp_path / "c", 5, key="other")
    train(tmp_path / "c")
    assert "all starts over: it is of other settings" in caplog.text


@pytest.mark.parametrize(("keep", "done"), [("last", 5), ("best", 5), ("best", 6), ("best", 10)])
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(keep: str, done: int, tmp_path: Path) -> None:
    """The look at the validation split that is due after every second step, and after the last, waits."""
    settings = BEST.model_copy(update={"keep": keep})
    checkpoint = tmp_path / "c"
    before = signal.getsignal(signal.SIGTERM)
    cut_off = Trainer(random_model("gpt2"), settings, epochs=2, seed=0, budget=60)
    step = cut_off.learner.step

    def signalled(*work: Any) -> dict[str, Any]:
        if cut_off.state.step == done - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*work)

    with (
        patch.object(cut_off.learner, "step", signalled),
        patch.object(cut_off.learner, "evaluate", wraps=cut_off.learner.evaluate) as looks,
        pytest.raises(UserError, match=rf"training goes on from step {done}$"),
    ):
        cut_off.fit(TRAIN, HELD, checkpoint, "key", minutes=1000)
    assert looks.call_count == (done - 1) // 2
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = Trainer(random_model("gpt2"), settings, epochs=2, seed=0, budget=60)
    whole = Trainer(random_model("gpt2"), settings, epochs=2, seed=0, budget=60)
    kept = resumed.fit(TRAIN, HELD, checkpoint, "key"), whole.fit(TRAIN, HELD, tmp_path / "d", "key", minutes=1000)
    assert not (tmp_path / "d").exists()  # a thousand minutes have not passed
    assert resumed.log()["seconds"][:done].equals(cut_off.log()["seconds"][:done])
    assert resumed.log().drop("seconds").equals(whole.log().drop("seconds"))
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[1])


# --- the environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [{"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, {"ACCELERATE_MIXED_PRECISION": "bf16"},
     {"ACCELERATE_USE_FSDP": "true"}, {"ACCELERATE_USE_DEEPSPEED": "true"}, {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"},
     {"PMI_SIZE": "2"}, {"WORLD_SIZE": "2", "LOCAL_RANK": "1", "RANK": "1"}],
)  # fmt: skip
def test_what_a_launcher_left_in_the_environment_changes_nothing(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(place: Path) -> dict[str, Tensor]:
        AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps that of the first it made
        trainer = Trainer(random_model("gpt2"), BEST, epochs=1, seed=0, budget=99)
        return trainer.fit(pairs(20, 0), pairs(9, 1), place, "key")

    expected = trained(tmp_path / "plain")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = together(1, lambda: trained(tmp_path / "launched"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# --- a device's memory ----------------------------------------------------------------------------------------


def short_of_memory(model: Any, tokens: int, where: str) -> Any:
    """The model, as if on a device whose memory suffices for so many tokens at a time, forward or backward."""

    def forward(_module: Any, _args: Any, given: dict[str, Any], output: Any) -> None:
        def fail(_gradient: Any = None) -> None:
            raise torch.OutOfMemoryError("out of memory")

        if given["input_ids"].numel() > tokens:
            states = output.last_hidden_state
            fail() if where == "forward" or not states.requires_grad else states.register_hook(fail)

    model.base_model.register_forward_hook(forward, with_kwargs=True)
    return model


@pytest.mark.parametrize(
    "place", ["Accelerator.prepare_model", "Accelerator.clip_grad_norm_", "optimizer.AcceleratedOptimizer.step"]
)
def test_what_smaller_batches_cannot_mend_is_one_line(place: str, tmp_path: Path) -> None:
    expected = (
        r"^out of device memory with weights, gradients and optimiser alone: take training\.memory: lean, [^\n]*$"
    )
    short = patch(f"accelerate.{place}", side_effect=torch.OutOfMemoryError("out of memory"))
    with short, pytest.raises(UserError, match=expected):
        Trainer(random_model("gpt2"), BEST, 1, 0, 99).fit(pairs(9, 0), pairs(9, 1), tmp_path / "checkpoint", "key")


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_halves_the_budget_and_keeps_the_pairs(
    where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the first step on: as if the budget had been the smaller one from the start, to the bit."""
    rng = np.random.default_rng(0)
    texts = rng.integers(1, 50, (20, 2, 6))
    alike = [pack([one], [other]) for one, other in texts]  # 12 tokens each, or 48 a step
    short = Trainer(short_of_memory(random_model("gpt2"), 47, where), BEST, epochs=2, seed=0, budget=120)
    small = Trainer(random_model("gpt2"), BEST, epochs=2, seed=0, budget=30)
    kept, expected = (t.fit(alike, alike, tmp_path / f"{t.placed.budget}", "key") for t in (short, small))
    assert short.placed.budget == 30
    assert "once more, with at most 60 tokens" in caplog.text and "with at most 30 tokens" in caplog.text
    assert short.log().drop("seconds").equals(small.log().drop("seconds"))
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    resumed = Trainer(random_model("gpt2"), BEST, epochs=2, seed=0, budget=120)
    resume(resumed.placed, "key", tmp_path / "120", Kept())
    assert resumed.placed.budget == 30


def test_a_pair_that_fits_no_budget_is_one_line(tmp_path: Path) -> None:
    trainer = Trainer(short_of_memory(random_model("gpt2"), 5, "forward"), BEST, epochs=2, seed=0, budget=120)
    with pytest.raises(UserError, match=r"out of device memory with one comparison of \d+ tokens .* lower training"):
        trainer.fit(TRAIN, HELD, tmp_path / "c", "key")
    # Where weights are sharded, others would wait in the middle of the pass: nothing to do but end.
    with (
        patch.object(Replicated, "within_memory", Sharded.within_memory),
        pytest.raises(UserError, match=r"out of device memory with 120 tokens at a time: lower compute"),
    ):
        trainer.fit(TRAIN, HELD, tmp_path / "c", "key")


def test_scoring_and_statistics_fall_back_likewise() -> None:
    cpu, whole = torch.device("cpu"), random_model("gpt2")
    model = short_of_memory(random_model("gpt2"), 49, "forward")
    masks = [Mask.of(pl.DataFrame(schema={"unit": str, "layer": int, "neuron": int}), whole.config)]
    ours, small = (candidate_scores(m, TRAIN, masks, b, cpu) for m, b in ((model, 120), (whole, 30)))
    assert (ours == small).all()
    statistics = [activation_statistics(m, m, TRAIN, b, cpu) for m, b in ((model, 120), (whole, 30))]
    assert all(one.equals(other) for one, other in zip(*statistics, strict=True))


# --- several processes ----------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    budget=st.integers(1, 120),
    processes=st.integers(1, 4),
)
def test_shares_hold_every_pair_once_and_are_equally_many(lengths: list[int], budget: int, processes: int) -> None:
    dealt = shares(lengths, range(len(lengths)), budget, processes)
    assert sorted(i for own in dealt for group, weight in own if weight for i in group) == list(range(len(lengths)))
    assert len(dealt) == processes and len({len(own) for own in dealt}) == 1
    assert all(len(group) == 1 or sum(lengths[i] for i in group) <= budget for own in dealt for group, _ in own)
    real = [sum(lengths[i] for group, weight in own if weight for i in group) for own in dealt]
    assert max(real) - min(real) <= max(lengths)


def test_divergence_is_one_line(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"diverged .* lower training.learning_rate"):
        Trainer(random_model("gpt2"), settings, 3, 0, 200).fit(pairs(20, 0), pairs(8, 1), tmp_path / "c", "key")
