"""A reward model that was trained elsewhere is taken as it is, or refused with one line."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_backbone, two_families
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from rmtension.base.errors import UserError
from rmtension.base.files import fingerprint
from rmtension.engine.activations import reward_model_statistics
from rmtension.engine.adoption import adopt_reward_model
from rmtension.engine.backbones import train_tokenizer
from rmtension.engine.reward_model import (
    CHAT_TEMPLATE,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    save_reward_model,
    tokenise,
)
from rmtension.study.stages import Activations


@pytest.fixture
def backbone(family: str, tmp_path: Path) -> Path:
    folder = tmp_path / "backbone"
    save_backbone(family, folder)
    return folder


@pytest.fixture
def trained(backbone: Path, tmp_path: Path) -> Path:
    """A reward model as this project saves it, with the leavings of another trainer beside it."""
    folder = tmp_path / "trained"
    save_reward_model(new_reward_model(backbone, 0, 0.5), load_tokenizer(backbone), folder)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "provenance.json").write_text("{}")
    return folder


@two_families
def test_what_is_adopted_is_what_was_given(backbone: Path, trained: Path, tmp_path: Path) -> None:
    adopt_reward_model(trained, backbone, tmp_path / "output", {"python": "3"})
    files = {file.name: file for file in (tmp_path / "output").iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                          "chat_template.jinja", "checksums.json", "provenance.json"}  # fmt: skip
    written = {"checksums.json", "provenance.json"}
    assert all(file.samefile(trained / name) for name, file in files.items() if name not in written)
    assert (trained / "provenance.json").read_text() == "{}"
    said = json.loads(files["provenance.json"].read_text())
    assert said["adopted"] == str(trained)
    whole = {"reward_model": files["checksums.json"], "backbone": backbone / "checksums.json"}
    assert said["origins"] == {name: fingerprint(file) for name, file in whole.items()}
    state = load_reward_model(tmp_path / "output", torch.device("cpu")).state_dict()
    original = AutoModelForSequenceClassification.from_pretrained(trained).state_dict()
    assert all(torch.equal(state[name], original[name]) for name in original)


def reconfigure(folder: Path, values: dict[str, Any]) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def family_of(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def another_vocabulary(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    train_tokenizer(["quite another language"] * 9, len(tokenizer) - 10).save_pretrained(folder)


def end_texts_with(token: str, folder: Path) -> None:
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    ending = TemplateProcessing(single=f"$A {token}", special_tokens=[(token, tokenizer.convert_tokens_to_ids(token))])
    tokenizer.backend_tokenizer.post_processor = ending
    tokenizer.save_pretrained(folder)


def pad_with(token: str, folder: Path) -> None:
    reconfigure(folder, {"pad_token_id": AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(token)})


def only_short_texts(folder: Path) -> None:
    reconfigure(folder, {"max_position_embeddings": 8, "n_positions": 8})
    if family_of(folder) == "gpt2":
        rewrite(folder, lambda t: t.update({"transformer.wpe.weight": t["transformer.wpe.weight"][:8].clone()}))


def first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name in sorted(tensors) if ".0.mlp." in name and name.endswith(".weight"))


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "a damaged configuration": (lambda f: (f / "config.json").write_text("{"), "its config.json cannot be used ("),
    "a family of its own": (lambda f: reconfigure(f, {"model_type": "mine"}), "no adapter for model family 'mine'"),
    "no tokenizer": (lambda f: (f / "tokenizer_config.json").unlink(), "tokenizer_config.json is missing"),
    "pickled weights": (pickle, "pickled weights are not loaded; rmtension convert "),
    "two labels": (
        lambda f: rewrite(f, lambda t: t.update({"score.weight": t["score.weight"].repeat(2, 1)})),
        "2 labels (0, 1): name the one that is the reward",
    ),
    "another family": (
        lambda f: reconfigure(f, {"model_type": "llama" if family_of(f) == "gpt2" else "gpt2"}),
        ", but the backbone's is",
    ),
    "truncated weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "its weights cannot be used (",
    ),
    "no head": (lambda f: rewrite(f, lambda t: t.pop("score.weight")), "no head among its tensors"),
    "a head of another width": (
        lambda f: rewrite(f, lambda t: t.update({"score.weight": torch.zeros(1, 5)})),
        "neither one linear layer nor two",
    ),
    "not a number": (
        lambda f: rewrite(f, lambda t: t[first(t)].view(-1)[3:4].fill_(torch.nan)), "values that are not finite",
    ),
    "another tokenizer": (another_vocabulary, "its tokenizer gives other ids than the backbone's"),
    "rewards that are no numbers": (
        lambda f: rewrite(f, lambda t: t["score.weight"].fill_(3e38)), "its reward of a text is not finite",
    ),
    "only short texts": (
        only_short_texts, "it reads 8 tokens at most",
    ),
    "layers of a window without its size": (
        lambda f: reconfigure(f, {"layer_types": ["sliding_attention"] * 3, "sliding_window": None}),
        "its model cannot be used (",
    ),
    "texts that end in padding": (partial(end_texts_with, "<|pad|>"), "ends a text with the padding token"),
    "a mark for padding": (partial(pad_with, "!"), "with the padding token, one that ends in ! for example, and"),
}  # fmt: skip


@two_families
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line(fault: str, backbone: Path, trained: Path, tmp_path: Path) -> None:
    if family_of(trained) == "mistral" and fault.startswith("layers of a window"):
        pytest.skip("transformers takes a mistral with kinds of layers for a ministral, which is tried by itself")
    spoil, message = FAULTS[fault]
    spoil(trained)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        adopt_reward_model(trained, backbone, tmp_path / "output", {})
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{trained}: ")
    assert not (tmp_path / "output").exists()


def with_further_token(folder: Path, **token: bool) -> Path:
    """As trainers add one: the embeddings have a row for it."""
    tokenizer: Any = load_tokenizer(folder)
    tokenizer.add_tokens([AddedToken("<new>", **token)])
    tokenizer.save_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return folder


@two_families
def test_a_token_of_texts_that_the_backbone_lacks_is_one_line(backbone: Path, trained: Path, tmp_path: Path) -> None:
    """Statistics of change run the texts' tokens through the backbone."""
    line = "its tokenizer reads token '<new>' of texts, for which the backbone has no embedding"
    with pytest.raises(UserError, match=line):
        adopt_reward_model(with_further_token(trained), backbone, tmp_path / "output", {})


@two_families
def test_a_special_token_matters_where_a_text_has_it(backbone: Path, trained: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "output", tmp_path / "pairs.parquet"
    adopt_reward_model(with_further_token(trained, special=True), backbone, folder, {})

    def statistics(words: str) -> None:
        texts = {side: [f"\n\nHuman: a\n\nAssistant: {words} {side}"] for side in ("chosen", "rejected")}
        about = {name: pl.lit("x") for name in ("comparison_id", "source", "orientation")}
        pl.DataFrame(texts).with_columns(**about).write_parquet(file)
        reward_model_statistics(folder, backbone, file, Activations(), 99, 999, torch.device("cpu"))

    statistics("b")
    with pytest.raises(UserError, match=f"^{file}: a text has a special token of {folder} written out"):
        statistics("b <new>")
    end_texts_with("<new>", trained)
    with pytest.raises(UserError, match="its tokenizer reads token '<new>' of texts"):
        adopt_reward_model(trained, backbone, tmp_path / "other", {})


@two_families
def test_tuples_in_place_of_named_outputs_make_no_difference(backbone: Path, trained: Path, tmp_path: Path) -> None:
    for folder in (backbone, trained):
        reconfigure(folder, {"return_dict": False})
    adopt_reward_model(trained, backbone, tmp_path / "output", {})
    save_reward_model(new_reward_model(backbone, 0, 0.5), load_tokenizer(backbone), tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text()).get("return_dict", True)


@two_families
def test_another_size_than_the_backbones_is_named(backbone: Path, trained: Path, tmp_path: Path) -> None:
    config = json.loads((backbone / "config.json").read_text())
    fewer = {"n_layer": 2} if "n_layer" in config else {"num_hidden_layers": 2}
    reconfigure(backbone, fewer | {key: config[key][:2] for key in ("layer_types",) if key in config})
    with pytest.raises(UserError, match=r"tensor .*\.2\..* is \(.*\), in the backbone none$"):
        adopt_reward_model(trained, backbone, tmp_path / "output", {})


@two_families
def test_texts_may_end_in_another_token_than_padding(backbone: Path, trained: Path, tmp_path: Path) -> None:
    """As TRL ends them: the reward model is then read at that token, here as in transformers itself."""
    end_texts_with("<|end|>", trained)
    adopt_reward_model(trained, backbone, tmp_path / "output", {})
    tokenizer = load_tokenizer(tmp_path / "output")
    assert tokenise(tokenizer, ["a"])[0][-1] == tokenizer.eos_token_id != tokenizer.pad_token_id


@two_families
def test_half_precision_is_read_as_float32(backbone: Path, trained: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(trained).bfloat16()
    model.save_pretrained(trained)
    adopt_reward_model(trained, backbone, tmp_path / "output", {})
    loaded = load_reward_model(tmp_path / "output", torch.device("cpu"))
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}


def test_saved_tokenizers_render_the_training_form(trained: Path) -> None:
    shutil.rmtree(trained.parent / "backbone")
    tokenizer: Any = AutoTokenizer.from_pretrained(trained)
    turns = [("user", "Is {this} it? "), ("assistant", " Yes.\n"), ("user", "\nSure?"), ("assistant", "No")]
    messages = [{"role": role, "content": content} for role, content in turns]
    one = "\n\nHuman: Is {this} it? \n\nAssistant:  Yes.\n"
    both = one + "\n\nHuman: \nSure?\n\nAssistant: No"
    assert tokenizer.apply_chat_template(messages[:2], tokenize=False) == one
    assert tokenizer.apply_chat_template(messages, tokenize=False) == both
    prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == one.removesuffix(turns[1][1]).rstrip(" ")
    assert tokenizer.apply_chat_template(messages)["input_ids"] == tokenise(tokenizer, [both])[0].tolist()
    with pytest.raises(Exception, match="system"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Be good."}, *messages], tokenize=False)


def test_the_documented_chat_template_is_the_saved_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "interchange.md").read_text(encoding="utf-8")
    [literal] = re.findall(r"^CHAT_TEMPLATE = (\(.*?^\))", page, flags=re.MULTILINE | re.DOTALL)
    assert ast.literal_eval(literal) == CHAT_TEMPLATE
