"""Token ids are those of the folder's own tokenizer.json, as the library `tokenizers` reads it by itself."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import pytest
from tiny_models import CONFIGS, save_backbone, two_families
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rmtension.base.errors import UserError
from rmtension.engine.adoption import adopt_reward_model
from rmtension.engine.backbones import convert_gguf, gguf_tokenizer, make_backbone, prepare_backbone
from rmtension.engine.reward_model import (
    CHAT_TEMPLATE,
    load_tokenizer,
    new_reward_model,
    save_reward_model,
    save_tokenizer,
    tokenise,
)
from rmtension.study.models import FolderModel, MadeModel

TEXTS = [
    "\n\nHuman: Steps?\n\nAssistant: Steps:\n\n1. Wash\n  2. Dry\r\n\r\n\tIn 2024, for 1,000 days.",
    "  I'LL say it's  fine…  \n \n  e\u0301t\u00e9 \u4f60\u597d \U0001f600   ",
    "to be<|end|> or not <|slot|> to be<|pad|>",
    "",
]
SPLIT = r"(?i:'s|'ll)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DIGITS = pre_tokenizers.Digits(individual_digits=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
SPLITTING = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
)
# rules -> normaliser, what splits a text, whether a token is put before it
RULES: dict[str, tuple[Any, Any, bool]] = {
    "GPT-2": (None, BYTES, False),
    "GPT-2 with a space before each text": (None, pre_tokenizers.ByteLevel(add_prefix_space=True), False),
    "SmolLM2": (None, pre_tokenizers.Sequence([DIGITS, BYTES]), False),
    "Qwen2": (normalizers.NFC(), SPLITTING, False),
    "Llama 3": (None, SPLITTING, True),
}
CLASSES = ["GPT2Tokenizer", "GPTNeoXTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", "PreTrainedTokenizerFast", None]


@cache
def trained(rules: str) -> Tokenizer:
    normaliser, splitting, begins = RULES[rules]
    tokenizer = Tokenizer(models.BPE())
    if normaliser:
        tokenizer.normalizer = normaliser
    tokenizer.pre_tokenizer, tokenizer.decoder = splitting, decoders.ByteLevel()
    slot = AddedToken("<|slot|>", lstrip=True, rstrip=True, special=True)  # takes in the spaces around it
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(special_tokens=["<|end|>", "<|pad|>", slot], initial_alphabet=alphabet)
    )
    if begins:
        begin = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
        tokenizer.post_processor = begin
    return tokenizer


def configure(file: Path, **values: Any) -> None:
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({key: value for key, value in (before | values).items() if value is not None}))


def write(tokenizer: Tokenizer, folder: Path, **settings: Any) -> None:
    """A published folder's tokenizer files."""
    tokenizer.save(str(folder / "tokenizer.json"))
    configure(folder / "tokenizer_config.json", eos_token="<|end|>", additional_special_tokens=["<|slot|>"], **settings)


def expected(folder: Path) -> list[list[int]]:
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [own.encode(text).ids for text in TEXTS]


def ours(folder: Path) -> list[list[int]]:
    return [ids.tolist() for ids in tokenise(load_tokenizer(folder), TEXTS)]


def test_the_rules_tell_themselves_apart() -> None:
    assert len({str([trained(rules).encode(text).ids for text in TEXTS]) for rules in RULES}) == len(RULES)


@two_families
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("named", CLASSES)
def test_ids_are_those_of_tokenizer_json_whatever_class_is_named(
    named: str | None, rules: str, family: str, tmp_path: Path
) -> None:
    config = copy.deepcopy(CONFIGS[family])
    config.vocab_size = trained(rules).get_vocab_size()
    config.save_pretrained(tmp_path)
    write(trained(rules), tmp_path, tokenizer_class=named)
    assert ours(tmp_path) == expected(tmp_path)


@two_families
@pytest.mark.parametrize("rules", ["SmolLM2", "Llama 3"])
def test_a_reward_model_keeps_its_backbones_tokens(rules: str, family: str, tmp_path: Path) -> None:
    """From a folder, by training's saving, to a reward model that another study adopts."""
    origin, backbone, trained_folder, adopted = (tmp_path / name for name in ("origin", "backbone", "model", "adopted"))
    save_backbone(family, origin, vocabulary=trained(rules).get_vocab_size())
    write(trained(rules), origin, tokenizer_class="GPT2Tokenizer", padding_side="left", pad_token="<|pad|>")
    prepare_backbone(FolderModel(kind="pretrained", path="origin"), str(tmp_path), backbone)
    save_reward_model(new_reward_model(backbone, 0, 0.5), load_tokenizer(backbone), trained_folder)
    adopt_reward_model(trained_folder, backbone, adopted, {})
    for folder in (backbone, trained_folder, adopted):
        assert ours(folder) == expected(origin)
        tokenizer = load_tokenizer(folder)
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.padding_side) == (0, 1, "left")
        assert "<|slot|>" in tokenizer.all_special_tokens
    assert load_tokenizer(trained_folder).chat_template == CHAT_TEMPLATE
    # Anyone who reads the folder by the class that it names has the same.
    elsewhere: Any = PreTrainedTokenizerFast.from_pretrained(trained_folder)
    assert json.loads((trained_folder / "tokenizer_config.json").read_text())["tokenizer_class"] == (
        "PreTrainedTokenizerFast"
    )
    assert elsewhere(TEXTS[:2])["input_ids"] == expected(origin)[:2]


@two_families
def test_a_made_backbone_is_read_by_the_rules_that_it_was_made_with(family: str, tmp_path: Path) -> None:
    pretraining = {"texts": 20, "epochs": 1}
    made = {"kind": "made", "family": family, "layers": 2, "width": 16, "heads": 2, "neurons": 20, "vocabulary": 300}
    make_backbone(MadeModel.model_validate(made | {"pretraining": pretraining}), tmp_path)
    assert ours(tmp_path) == expected(tmp_path)


def test_only_what_a_tokenizer_file_cuts_pads_and_draws_is_left_whole(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(trained("SmolLM2").to_str())
    CONFIGS["llama"].save_pretrained(tmp_path)
    configure(tmp_path / "config.json", vocab_size=tokenizer.get_vocab_size())
    write(tokenizer, tmp_path)
    whole = expected(tmp_path)
    tokenizer.model.dropout = 0.5
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9, pad_id=1, pad_token="<|pad|>")
    write(tokenizer, tmp_path, split_special_tokens=True, pad_token="b")  # a letter of the vocabulary
    assert ours(tmp_path) == whole


def test_a_folder_without_tokenizer_json_keeps_the_tokens_that_transformers_makes_of_it(tmp_path: Path) -> None:
    """Vocabulary and merges alone, as GPT-2's first files: saved, the tokenizer is a tokenizer.json of the same ids."""
    origin, saved = tmp_path / "origin", tmp_path / "saved"
    content = json.loads(trained("GPT-2").to_str())["model"]
    vocabulary = content["vocab"] | {"<|endoftext|>": len(content["vocab"])}
    save_backbone("gpt2", origin, vocabulary=len(vocabulary))
    for file in origin.glob("tokenizer*"):
        file.unlink()
    (origin / "vocab.json").write_text(json.dumps(vocabulary))
    (origin / "merges.txt").write_text("\n".join(" ".join(pair) for pair in content["merges"]))
    save_reward_model(new_reward_model(origin, 0, 0.5), load_tokenizer(origin), saved)
    assert ours(saved) == ours(origin) == expected(saved)
    assert ours(origin)[0] == trained("GPT-2").encode(TEXTS[0]).ids


def test_gpt2s_own_files_name_no_end_and_have_one_all_the_same(tmp_path: Path) -> None:
    CONFIGS["gpt2"].save_pretrained(tmp_path)
    tokenizer = Tokenizer(models.BPE(vocab={"<|endoftext|>": 0, "a": 1, "b": 2}, merges=[]))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).pad_token_id == load_tokenizer(tmp_path).eos_token_id == 0


def test_padding_is_what_the_files_name_or_end_of_text(tmp_path: Path) -> None:
    """GPTNeoXTokenizer of version 5 would have <|padding|>, which is in Pythia's vocabulary and named nowhere."""
    CONFIGS["gpt_neox"].save_pretrained(tmp_path)
    tokenizer = Tokenizer(models.BPE(vocab={"<|endoftext|>": 0, "<|padding|>": 1, "a": 2, "b": 3}, merges=[]))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|padding|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    configure(tmp_path / "tokenizer_config.json", tokenizer_class="GPTNeoXTokenizer", eos_token="<|endoftext|>")
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token == "<|padding|>"
    assert load_tokenizer(tmp_path).pad_token == "<|endoftext|>"


def write_gguf(tokenizer: Tokenizer, rules: str | None, file: Path) -> None:
    """The header of a GGUF file with the vocabulary and merges of a tokenizer, and the name of its rules."""
    content = json.loads(tokenizer.to_str())
    special = {token["id"] for token in content["added_tokens"]}
    ids = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_tokenizer_model("gpt2")
    if rules:
        writer.add_tokenizer_pre(rules)
    writer.add_token_list([token for token, _ in ids])
    writer.add_token_types([gguf.TokenType.CONTROL if n in special else gguf.TokenType.NORMAL for _, n in ids])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


@pytest.mark.parametrize(("named", "rules"), [("gpt-2", "GPT-2"), ("smollm", "SmolLM2"), ("llama-bpe", "Llama 3")])
def test_a_gguf_file_is_read_by_the_rules_that_it_names(named: str, rules: str, tmp_path: Path) -> None:
    own = trained(rules)
    write_gguf(own, named, tmp_path / "model.gguf")
    save_tokenizer(gguf_tokenizer(tmp_path / "model.gguf"), tmp_path)
    CONFIGS["llama"].save_pretrained(tmp_path)
    configure(tmp_path / "config.json", vocab_size=own.get_vocab_size())
    plain = TEXTS[:2]  # a GGUF file does not say that <|slot|> takes in spaces
    assert ours(tmp_path)[:2] == [own.encode(text, add_special_tokens=False).ids for text in plain]
    assert load_tokenizer(tmp_path).get_vocab() == own.get_vocab()


@pytest.mark.parametrize("named", ["viking", None])
def test_a_gguf_file_whose_rules_nobody_knows_is_one_line(named: str | None, tmp_path: Path) -> None:
    write_gguf(trained("SmolLM2"), named, tmp_path / "model.gguf")
    message = (
        rf"model\.gguf: its rules '{named or 'unnamed'}' for splitting texts are not known \(.*; give the model as"
    )
    with pytest.raises(UserError, match=message):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "new")


@pytest.mark.parametrize("settings", [{"pad_token": "<pad>"}, {"extra_special_tokens": ["<pad>"]}])
def test_a_token_that_only_the_settings_know_is_one_line(settings: Any, tmp_path: Path) -> None:
    CONFIGS["llama"].save_pretrained(tmp_path)
    configure(tmp_path / "config.json", vocab_size=10_000)
    write(trained("SmolLM2"), tmp_path, **settings)
    message = "its settings name a token '<pad>' that its tokenizer.json lacks; give it complete files"
    with pytest.raises(UserError, match=f"^{tmp_path}: {message}"):
        load_tokenizer(tmp_path)
