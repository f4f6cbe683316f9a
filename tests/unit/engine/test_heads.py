"""Reward models as others lay them out: their heads are read as plain arithmetic on the backbone's states has it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, random_model
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.activations import ACT2FN

from rmtension.base.errors import UserError
from rmtension.engine.heads import Choice
from rmtension.engine.packing import collate, pack
from rmtension.engine.reward_model import load_reward_model, score

CPU, WIDTH, IDS = torch.device("cpu"), 16, [3, 14, 15, 9, 26]
Head = dict[str, Tensor]
drawn = torch.Generator().manual_seed(7)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=drawn)


def laid_out(folder: Path, head: Head, family: str = "llama", **settings: Any) -> Path:
    """A reward model with these tensors for its head, and these settings in config.json."""
    random_model(family).save_pretrained(folder)
    tensors = {k: t for k, t in load_file(folder / "model.safetensors").items() if not k.startswith("score.")}
    save_file(tensors | head, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    for key in ("num_labels", "id2label", "label2id"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


@torch.inference_mode()
def last_state(folder: Path) -> Tensor:
    """The backbone's state of the text's last token, by transformers alone."""
    backbone = AutoModel.from_pretrained(folder, dtype=torch.float32)
    states: Tensor = backbone(torch.tensor([IDS])).last_hidden_state
    return states[0, -1]


@torch.inference_mode()
def reward(folder: Path, choice: Choice | None = None) -> float:
    model = load_reward_model(folder, CPU, choice)
    return score(model, collate([pack([torch.tensor(IDS).numpy()], [])], [0])).item()


ONE, BIAS, TWO = random(1, WIDTH), random(1), random(2, WIDTH)
HIDDEN, HIDDEN_BIAS, LAST, LAST_BIAS = random(8, WIDTH), random(8), random(1, 8), random(1)
NAMED = {"id2label": {"0": "helpfulness", "1": "safety"}, "label2id": {"helpfulness": 0, "safety": 1}}
LAYOUTS: dict[str, tuple[Head, dict[str, Any], Choice, Callable[[Tensor], Tensor]]] = {
    "transformers' own": ({"score.weight": ONE}, {}, Choice(), lambda h: ONE @ h),
    "two labels, one in the weights": ({"score.weight": ONE}, {"num_labels": 2}, Choice(), lambda h: ONE @ h),
    "with a bias": ({"score.weight": ONE, "score.bias": BIAS}, {}, Choice(), lambda h: ONE @ h + BIAS),
    "of another name": (
        {"v_head.summary.weight": ONE, "v_head.summary.bias": BIAS}, {}, Choice(), lambda h: ONE @ h + BIAS,
    ),
    "in bfloat16": ({"value_head.weight": ONE.bfloat16()}, {}, Choice(), lambda h: ONE.bfloat16().float() @ h),
    "beside the language model's": (
        {"reward_head.weight": ONE, "lm_head.weight": random(50, WIDTH)}, {}, Choice(), lambda h: ONE @ h,
    ),
    "a label by its name": ({"score.weight": TWO}, NAMED, Choice("safety"), lambda h: TWO[1] @ h),
    "a label without a name of its own": ({"classifier.weight": TWO}, {}, Choice("LABEL_0"), lambda h: TWO[0] @ h),
    "two layers": (
        {"score.0.weight": HIDDEN, "score.0.bias": HIDDEN_BIAS, "score.2.weight": LAST, "score.2.bias": LAST_BIAS},
        {}, Choice(activation="relu"), lambda h: LAST @ torch.relu(HIDDEN @ h + HIDDEN_BIAS) + LAST_BIAS,
    ),
    "two layers, the second behind the tenth module": (
        {"score.2.weight": HIDDEN, "score.10.weight": LAST}, {}, Choice(activation="silu"),
        lambda h: LAST @ ACT2FN["silu"](HIDDEN @ h),
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_head_is_read_as_it_is_laid_out(family: str, layout: str, tmp_path: Path) -> None:
    head, settings, choice, by_hand = LAYOUTS[layout]
    folder = laid_out(tmp_path / "model", head, family, **settings)
    assert reward(folder, choice) == pytest.approx(by_hand(last_state(folder)).item(), rel=1e-5)


def test_a_head_in_a_file_of_its_own_is_named_and_can_be_put_in(tmp_path: Path) -> None:
    """As LLaMA-Factory writes a reward model; by the code that docs/xray.md shows."""
    folder = laid_out(tmp_path / "model", {"lm_head.weight": random(50, WIDTH)})
    head = {"v_head.summary.weight": ONE, "v_head.summary.bias": BIAS}
    save_file(head, folder / "value_head.safetensors")
    save_file({"lora_A.weight": random(2, WIDTH)}, folder / "adapter_model.safetensors")
    line = "no head among its tensors, but value_head.safetensors has v_head.summary.bias, v_head.summary.weight, which"
    with pytest.raises(UserError, match=f"^{folder}: {line}"):
        load_reward_model(folder, CPU)
    page = (Path(__file__).parents[3] / "docs" / "xray.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?value_head.*?)```", page, re.DOTALL)
    exec(code.replace('"my-reward-model"', repr(str(folder))), {})
    assert reward(folder) == pytest.approx((ONE @ last_state(folder) + BIAS).item(), rel=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_head_of_a_language_model_is_none(family: str, tmp_path: Path) -> None:
    """Under the name that transformers saves it by, whichever the family; and a reward model may hold it still."""
    config = copy.deepcopy(CONFIGS[family])
    config.tie_word_embeddings = False
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no head among its tensors \(config.json names .*\): it gives no rewards"):
        load_reward_model(tmp_path, CPU)
    tensors = load_file(tmp_path / "model.safetensors")
    assert sum(len(tensor) == config.vocab_size for tensor in tensors.values()) == 2, "it has that head"
    save_file(tensors | {"score.weight": ONE}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert reward(tmp_path) == pytest.approx((ONE @ last_state(tmp_path)).item(), rel=1e-5)


@pytest.mark.parametrize("label", [None, "safety"])
def test_a_line_on_many_labels_is_no_page(label: str | None, tmp_path: Path) -> None:
    folder = laid_out(tmp_path / "model", {"score.weight": random(5000, WIDTH)}, num_labels=5000)
    with pytest.raises(UserError, match=r"LABEL_0, .* and 4\d{3} more") as raised:
        load_reward_model(folder, CPU, Choice(label))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("size", ["50GB", "8KB"])
@pytest.mark.parametrize("beside", ["adapter_model", "consolidated", "model-00099-of-00099", "zz"])
def test_the_head_comes_from_the_files_that_the_body_comes_from(size: str, beside: str, tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path, max_shard_size=size)
    others = {"score.weight": random(1, WIDTH), "v_head.weight": random(1, WIDTH)}
    save_file(others, tmp_path / f"{beside}.safetensors", metadata={"format": "pt"})
    with torch.inference_mode():
        theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)(torch.tensor([IDS])).logits.item()
    assert reward(tmp_path) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("head", "settings", "choice", "line"),
    [
        ({}, {}, Choice(), "no head among its tensors"),
        ({"lm_head.weight": random(50, WIDTH)}, {"architectures": ["LlamaForCausalLM"]}, Choice(), "LlamaForCausalLM"),
        ({"score.weight": TWO}, NAMED, Choice(), r"2 labels \(helpfulness, safety\): name the one"),
        ({"score.weight": TWO}, NAMED, Choice("safty"), "did you mean 'safety'"),
        ({"score.weight": ONE}, {}, Choice("safety"), "no label 'safety'"),
        ({"a.0.weight": HIDDEN, "a.2.weight": LAST}, {}, Choice(), "two layers .* one of gelu.* by --activation"),
        ({"a.0.weight": HIDDEN, "a.2.weight": LAST}, {}, Choice(None, "rleu"), "no activation 'rleu'; .* 'relu'"),
        ({"a.weight": ONE, "b.weight": random(1, WIDTH)}, {}, Choice(), "neither one linear layer nor two"),
        ({"a.0.weight": HIDDEN, "a.2.weight": ONE}, {}, Choice(), "neither one linear layer nor two"),
        ({"a.weight": random(1, WIDTH + 1)}, {}, Choice(), "neither one linear layer nor two"),
        ({"score.weight": ONE, "score.mean": BIAS}, {}, Choice(), "neither one linear layer nor two"),
        ({"score.weight": ONE, "score.bias": random(2)}, {}, Choice(), "neither one linear layer nor two"),
        ({"score.weight": ONE * torch.nan}, {}, Choice(), "not finite in tensor score.weight"),
    ],
)  # fmt: skip
def test_what_is_no_head_is_said_in_one_line(
    head: Head, settings: dict[str, Any], choice: Choice, line: str, tmp_path: Path
) -> None:
    folder = laid_out(tmp_path / "model", head, **settings)
    with pytest.raises(UserError, match=line) as raised:
        load_reward_model(folder, CPU, choice)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
