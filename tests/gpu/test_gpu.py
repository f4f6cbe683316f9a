"""What a GPU computes, held against this machine's CPU: `make test-gpu`.

Skipped where torch sees no GPU, as on the machines that the project was built on.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
import torch
from accelerate.state import AcceleratorState
from polars.testing import assert_frame_equal
from tiny_models import CONFIGS, pairs, random_model
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

from rmtension.base.device import arithmetic, start_torch
from rmtension.engine import attention
from rmtension.engine.ablation import Mask
from rmtension.engine.activations import activation_statistics
from rmtension.engine.decisions import precise_rewards
from rmtension.engine.evaluation import ablated_scores, candidate_scores
from rmtension.engine.learner import bradley_terry, margins
from rmtension.engine.packing import Packed, collate, pack
from rmtension.engine.reward_model import score
from rmtension.engine.training import Trainer
from rmtension.study.stages import Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SOME = pl.DataFrame({"unit": ["neuron", "neuron", "head"], "layer": [0, 2, 1], "neuron": [3, 1, 0]})
SETTINGS = Training(learning_rate=3e-3, pairs_per_step=8, evaluation_interval=5, precision="float32")


@pytest.fixture(autouse=True, scope="module")
def started() -> None:
    assert start_torch(threads=1, gpus=1) == GPU


def masks(model: Any) -> list[Mask]:
    return [Mask.of(rows, model.config) for rows in (SOME.clear(), SOME)]


def scores(model: Any, device: torch.device) -> np.ndarray[Any, np.dtype[np.float32]]:
    return candidate_scores(copy.deepcopy(model).to(device), pairs(60, seed=1), masks(model), 400, device)


@pytest.mark.parametrize("family", CONFIGS)
def test_scores_are_those_of_the_cpu(family: str) -> None:
    model = random_model(family)
    expected = scores(model, CPU)
    assert np.abs(expected[1] - expected[0]).max() > 0.01  # the ablation is seen
    np.testing.assert_allclose(scores(model, GPU), expected, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_statistics_are_those_of_the_cpu(family: str) -> None:
    model = random_model(family)
    base = random_model(family, seed=1)

    def statistics(device: torch.device) -> pl.DataFrame:
        ours, theirs = (copy.deepcopy(one).to(device) for one in (model, base))
        return activation_statistics(ours, theirs, pairs(40, seed=2), 400, device).neurons

    assert_frame_equal(statistics(GPU), statistics(CPU), abs_tol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_attention_never_holds_the_weight_of_every_pair_of_tokens(precision: str) -> None:
    """Of Llama with shared keys and of GPT-2: the way that would is forbidden here, and torch says so if it is left."""
    for family in ("llama", "gpt2"):
        model = random_model(family).to(GPU)
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]), arithmetic(precision, GPU):
            candidate_scores(model, pairs(20, seed=1), masks(model), 400, GPU)


OF_64 = {"hidden_size": 256, "head_dim": 64, "max_position_embeddings": 600}  # heads that flash attention takes


@pytest.mark.parametrize(
    ("family", "changes", "calls"),
    [
        ("llama", OF_64, 3),
        ("gpt2", {"n_embd": 256, "n_head": 4, "n_positions": 600}, 3),
        ("gemma3_text", OF_64 | {"sliding_window": 600}, 3),
        ("gemma3_text", OF_64 | {"sliding_window": 100}, 1),  # two layers in which texts are longer than the window
    ],
)
def test_one_call_for_all_lengths_is_as_near_to_float32_as_texts_side_by_side(
    family: str, changes: dict[str, int], calls: int
) -> None:
    """Rewards and gradients in bfloat16; `calls`: layers that make one."""
    model = random_model(family, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.2)  # or attention would be all on one token
    model.to(GPU)
    rng = np.random.default_rng(0)
    shapes = [*rng.integers(1, 200, (20, 3)).tolist(), [300, 150, 40], [0, 9, 70], [0, 200, 1]]
    texts = [[rng.integers(9, 50, (2, own)) for own in shape] for shape in shapes]
    comparisons = [pack([np.concatenate([p[0], a[0]])], [np.concatenate([p[0], b[1]])]) for p, a, b in texts]
    comparisons.append(pack([np.arange(9, 40)], [np.arange(9, 49)]))  # a text that is the prefix itself
    batch = collate(comparisons, range(len(comparisons))).to(GPU)

    def computed(precision: str) -> list[Tensor]:
        with arithmetic(precision, GPU):
            rewards = score(model, batch)
            loss = bradley_terry(margins(rewards, batch))
        return [rewards.detach().float(), *torch.autograd.grad(loss, list(model.parameters()))]

    exact = computed("float32")
    with patch.object(attention, "varlen_attn", wraps=varlen_attn) as call:
        at_once = computed("bfloat16")
    assert call.call_count == calls
    with patch.object(attention, "takes_any_lengths", lambda _: False):
        side_by_side = computed("bfloat16")

    def error(found: list[Tensor], kind: slice) -> float:
        """Root of the mean squared error, each tensor relative to its size."""
        relative = [(a - b).norm() / b.norm() for a, b in zip(found[kind], exact[kind], strict=True)]
        return float(torch.stack(relative).square().mean().sqrt())

    for kind in (slice(1), slice(1, None)):  # rewards, gradients
        assert 0 < error(at_once, kind) < 1.5 * error(side_by_side, kind)
        assert error(at_once, kind) < 0.1


def test_bfloat16_decides_as_float32() -> None:
    model, comparisons = random_model("llama").to(GPU), pairs(400, seed=3)
    both = masks(model)

    def found(precision: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        whole = partial(ablated_scores, model, both)
        return precise_rewards(
            "scores",
            whole,
            lambda row: partial(ablated_scores, model, [both[row]]),
            comparisons,
            2,
            400,
            precision,
            GPU,
        )

    (rough, kinds), (exact, _) = found("bfloat16"), found("float32")
    assert {"bfloat16", "float32"} == set(kinds.flatten()) and (rough != exact).any()
    assert (rough[:, ::2] > rough[:, 1::2]).tolist() == (exact[:, ::2] > exact[:, 1::2]).tolist()


def trained(folder: Path, device: str, precision: str = "float32") -> tuple[dict[str, Tensor], pl.DataFrame]:
    AcceleratorState._reset_state(reset_partial_state=True)  # else accelerate keeps a process to its first device
    settings = SETTINGS.model_copy(update={"precision": precision})
    trainer = Trainer(random_model("llama"), settings, epochs=3, seed=0, budget=300)
    weights = trainer.fit(TRAIN, TRAIN[:10], folder / "checkpoint", "key")
    assert trainer.placed.accelerator.device.type == device
    return weights, trainer.log().drop("seconds")


TRAIN: list[Packed] = pairs(60, seed=0)


def test_training_learns_as_on_the_cpu_and_twice_the_same(tmp_path: Path) -> None:
    (once, log), (again, log_again) = trained(tmp_path, "cuda"), trained(tmp_path, "cuda")
    assert log.equals(log_again) and all(torch.equal(once[name], again[name]) for name in once)
    with patch.object(torch.cuda, "is_available", lambda: False):
        _, expected = trained(tmp_path, "cpu")
    np.testing.assert_allclose(log["loss"][:5], expected["loss"][:5], atol=1e-3)
    assert sum(log["loss"][-3:]) < sum(log["loss"][:3])


def test_training_in_bfloat16_learns(tmp_path: Path) -> None:
    _, log = trained(tmp_path, "cuda", "bfloat16")
    assert sum(log["loss"][-3:]) < sum(log["loss"][:3])


def test_too_small_a_gpu_takes_fewer_tokens_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    """The memory that a large batch takes is taken away; scores stay."""
    model, comparisons = random_model("llama").to(GPU), pairs(4000, seed=4)
    unchanged = masks(model)[:1]
    expected = candidate_scores(model, comparisons, unchanged, 2_000, GPU)
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((held + 24 * 2**20) / total)
    try:
        found = candidate_scores(model, comparisons, unchanged, 60_000, GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of device memory" in caplog.text
    np.testing.assert_allclose(found, expected, atol=1e-5)
