"""Model folders that are damaged, foreign or hostile: one line that names the folder; no code and no pickle is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_backbone
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from bad import Trap, both, refused, save_models
from rmtension.engine.adoption import adopt_reward_model
from rmtension.engine.backbones import make_backbone, prepare_backbone, train_tokenizer
from rmtension.engine.reward_model import (
    load_backbone,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
)
from rmtension.engine.scoring import Scorer
from rmtension.engine.training import TrainingRun, train_reward_model
from rmtension.study.models import FolderModel, GgufModel, MadeModel
from rmtension.study.stages import Training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone and a reward model, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    save_models("llama", folder)
    return folder


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "models"))


def prepare(models: Path) -> None:
    prepare_backbone(FolderModel(kind="pretrained", path="models/backbone"), str(models.parent), models.parent / "new")


def configure(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def fill(value: float, folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors[EMBEDDINGS][3, :2].fill_(value))


def put(name: str, content: str | bytes, folder: Path) -> None:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def remove(names: str, folder: Path) -> None:
    for file in list(folder.glob(names)):
        file.unlink()


def pickle_only(folder: Path) -> None:
    remove("*.safetensors", folder)
    put("pytorch_model.bin", pickle.dumps(Trap(folder.parent / "sprung")), folder)


def disguised_pickle(folder: Path) -> None:
    put("model.safetensors", pickle.dumps(Trap(folder.parent / "sprung")), folder)


def code_of_its_own(folder: Path, **values: Any) -> None:
    put("mine.py", f"import pathlib; pathlib.Path({str(folder.parent / 'sprung')!r}).touch()\n", folder)
    classes = {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine", "AutoModelForSequenceClassification": "mine.Mine"}
    configure(folder, auto_map=classes, **values)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    put("tokenizer_config.json", json.dumps(tokenizer | {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}}), folder)


def without_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = dict.fromkeys(load_file(folder / "model-00001-of-00002.safetensors"), "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": shards | {LAST: "model-00002-of-00002.safetensors"}}
    put("model.safetensors.index.json", json.dumps(index), folder)


def newer_shards(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    without_shard(folder)
    put("model-00002-of-00002.safetensors", whole, folder)
    put("model.safetensors", whole, folder)


def larger_tokenizer(folder: Path) -> None:
    train_tokenizer(["quite another language, with a good many more words to it"] * 9, 280).save_pretrained(folder)
    configure(folder, vocab_size=270)
    rewrite(folder, lambda t: t.update({n: t[n][:270].clone() for n in (EMBEDDINGS, "lm_head.weight")}))


def put_settings(folder: Path, **values: Any) -> None:
    file = folder / "tokenizer_config.json"
    put(file.name, json.dumps(json.loads(file.read_text()) | values), folder)


def nameless_end(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    kept = {key: value for key, value in settings.items() if key not in ("eos_token", "pad_token")}
    put("tokenizer_config.json", json.dumps(kept), folder)


EMBEDDINGS, LAST = "model.embed_tokens.weight", "model.norm.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
# what is wrong -> (how a good backbone is spoilt, what is said of it behind the folder's name)
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty folder": (
        partial(remove, "*"),
        r"its config\.json cannot be used \(No such file or directory\); give it compl",
    ),
    "no configuration": (
        partial(remove, "config.json"),
        r"its config\.json cannot be used \(No such file or directory\)",
    ),
    "broken configuration": (partial(put, "config.json", "{"), r"its config\.json cannot be used \(Expecting property"),
    "configuration that is a list": (partial(put, "config.json", "[]"), r"its config\.json cannot be used \('list' "),
    "configuration in another encoding": (
        partial(put, "config.json", b"\xff"),
        r"its config\.json cannot be used \('utf",
    ),
    "no family": (
        partial(put, "config.json", "{}"),
        r"no adapter for model family 'None' \(known: gemma, gemma2, .* says how to",
    ),
    "unknown family": (lambda f: configure(f, model_type="mine"), r"no adapter for model family 'mine' \(known: gemma"),
    "family that is a list": (
        lambda f: configure(f, model_type=["gpt2"]),
        r"its config\.json cannot be used \(unhashable",
    ),
    "code of its own": (lambda f: code_of_its_own(f, model_type="mine"), "no adapter for model family 'mine'"),
    "width that is a word": (
        lambda f: configure(f, hidden_size="16"),
        r"its config\.json cannot be used \('hidden_size' in config\.json: .*expected int, got str \(.*'16'\)",
    ),
    "request for what no model here gives": (
        lambda f: configure(f, output_attentions=True),
        r"'output_attentions' in config\.json: .* attribute is not supported .*; correct it$",
    ),
    "activation that nobody knows": (
        lambda f: configure(f, hidden_act="mine"),
        r"\('hidden_act' in config\.json: 'mine' is missing or not known\); correct it$",
    ),
    "labels that are a word": (
        lambda f: configure(f, num_labels="two"),
        r"'num_labels' in config\.json: 'str' object .*; correct it$",
    ),
    "rotary positions without their factor": (
        lambda f: configure(f, rope_scaling={"rope_type": "yarn"}),
        r"'rope_scaling' in config\.json: .*Missing required keys .*'factor'",
    ),
    "heads that do not divide": (
        lambda f: configure(f, num_attention_heads=5),
        r"its (config\.json|weights) cannot be us",
    ),
    "more layers than weights": (
        lambda f: configure(f, num_hidden_layers=4),
        r"LlamaModel .* misses tensor layers\.3\.",
    ),
    "fewer layers than weights": (
        lambda f: configure(f, num_hidden_layers=2),
        r"has no place for tensor model\.layers\.2\.",
    ),
    "another width": (
        lambda f: configure(f, intermediate_size=20),
        r"has another shape of tensor layers\.0\.mlp\.down",
    ),
    "missing tensor": (
        lambda f: rewrite(f, lambda t: t.pop(DOWN)),
        r"misses tensor layers\.1\.mlp\.down_proj\.weight; give",
    ),
    "wrong shape": (
        lambda f: rewrite(f, lambda t: t.update({DOWN: torch.ones(3, 5)})),
        "has another shape of tensor layers.1.mlp.down",
    ),
    "additional tensor": (
        lambda f: rewrite(f, lambda t: t.update({"model.layers.0.mlp.extra": torch.ones(2)})),
        "no place for tensor model",
    ),
    "not a number": (
        partial(fill, torch.nan),
        r"reads values that are not finite in tensor embed_tokens\.weight; give it",
    ),
    "infinity": (partial(fill, torch.inf), r"reads values that are not finite in tensor embed_tokens\.weight"),
    "weights cut off": (
        lambda f: put("model.safetensors", (f / "model.safetensors").read_bytes()[:-9], f),
        r"its weights cannot be used \(",
    ),
    "empty weights": (partial(put, "model.safetensors", b""), r"its weights cannot be used \("),
    "weights that are a word": (
        partial(put, "model.safetensors", "weights, honestly"),
        r"its weights cannot be used \(",
    ),
    "no weights": (partial(remove, "*.safetensors"), r"no \*\.safetensors: give it weights"),
    "pickle": (pickle_only, "pickled weights are not loaded; rmtension convert .* writes them as safetensors"),
    "pickle in disguise": (disguised_pickle, r"its weights cannot be used \("),
    "shard that is missing": (without_shard, r"its weights cannot be used \("),
    "older weights beside newer shards": (
        newer_shards,
        "model.safetensors and, of model.safetensors.index.json, model-00001-of-00002.safetensors: remove the weights",
    ),
    "index without its map": (
        both(without_shard, partial(put, "model.safetensors.index.json", '{"metadata": {}}')),
        r"its weights cannot be used \('weight_map' is missing or not known\)",
    ),
    "broken index": (
        both(without_shard, partial(put, "model.safetensors.index.json", "{")),
        r"its weights cannot be used \(",
    ),
    "no tokenizer": (
        partial(remove, "tokenizer*"),
        "its tokenizer (cannot be used|knows no words) .*; give it complete",
    ),
    "broken tokenizer": (partial(put, "tokenizer.json", "{"), r"its tokenizer cannot be used \("),
    "foreign tokenizer": (partial(put, "tokenizer.json", "{}"), r"its tokenizer cannot be used \("),
    "broken settings of a tokenizer": (partial(put, "tokenizer_config.json", "["), r"its tokenizer cannot be used \("),
    "settings of a tokenizer that are a list": (
        partial(put, "tokenizer_config.json", "[]"),
        r"its tokenizer cannot be used \(tokenizer_config\.json: 'list' in place of keys with values\); give it",
    ),
    "names of special tokens that are none": (
        partial(put, "special_tokens_map.json", "null"),
        r"its tokenizer cannot be used \(special_tokens_map\.json: 'NoneType' in place of keys with values\); give it",
    ),
    "length that is a word": (
        lambda f: put_settings(f, model_max_length="1024"),
        r"its tokenizer cannot be used \('model_max_length' in tokenizer_config\.json: .*; correct it$",
    ),
    "end that is no token": (
        lambda f: put_settings(f, eos_token=3),
        r"\('eos_token' in tokenizer_config\.json: Special token eos_token has to be .*; correct it$",
    ),
    "tokenizer of another model": (
        larger_tokenizer,
        r"its tokenizer has 280 tokens, its model 270 embeddings; give it",
    ),
    "tokenizer without an end": (
        nameless_end,
        "its tokenizer has neither a padding nor an end-of-text token: name one",
    ),
}


def add_token(folder: Path, **token: bool) -> None:
    """As is usual, but for the embeddings: nothing calls resize_token_embeddings."""
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens([AddedToken("<|new|>", **token)])
    tokenizer.save_pretrained(folder)


def far_id(folder: Path) -> None:
    """A hole in the vocabulary: fewer tokens than embeddings, and yet an id beyond them."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["<far>"] = 7000
    put("tokenizer.json", json.dumps(content), folder)


def around_each_text(folder: Path) -> None:
    content = Tokenizer.from_file(str(folder / "tokenizer.json"))
    content.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 7000)])
    content.save(str(folder / "tokenizer.json"))


BEYOND: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an added token": (add_token, r"no embedding for token '<\|new\|>': its tokenizer has (\d+) tokens, its model"),
    "an added special token": (partial(add_token, special=True), r"no embedding for token '<\|new\|>': "),
    "a hole": (far_id, "no embedding for token '<far>': its tokenizer has 7001 tokens, its model"),
    "a token around each text": (around_each_text, "no embedding for token 'put around each text': .* 7001 tokens"),
}


@pytest.mark.parametrize("fault", BEYOND)
@pytest.mark.parametrize("kind", ["backbone", "reward_model"])
def test_an_id_beyond_the_embeddings_is_one_line(kind: str, fault: str, models: Path) -> None:
    spoil, expected = BEYOND[fault]
    spoil(models / kind)
    with refused(f"^{models / kind}: {expected}", models.parent):
        if kind == "backbone":
            prepare(models)
        adopt_reward_model(models / "reward_model", models / "backbone", models.parent / "adopted", {})


def test_embeddings_may_be_more_than_tokens(models: Path) -> None:
    def longer(tensors: dict[str, torch.Tensor]) -> None:
        for name in (EMBEDDINGS, "lm_head.weight"):
            tensors[name] = torch.cat([tensors[name], torch.ones(5, 16)])

    rewrite(models / "backbone", longer)
    configure(models / "backbone", vocab_size=len(load_tokenizer(models / "backbone")) + 5)
    add_token(models / "backbone")
    prepare(models)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_backbone_is_one_line(fault: str, models: Path) -> None:
    spoil, expected = FAULTS[fault]
    spoil(models / "backbone")
    with refused(f"^{models / 'backbone'}: .*{expected}", models.parent):
        prepare(models)


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0f' * 32}\nsize 538090408\n"
READ = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("name", READ)
def test_a_file_that_git_lfs_has_not_fetched_is_called_so(name: str, models: Path) -> None:
    expected = rf"^{models}/\w+/{name}: a git-lfs pointer, not the file itself; run `git lfs pull` in its folder$"
    put(name, POINTER, models / "backbone")
    with refused(expected, models.parent):
        prepare(models)
    put(name, POINTER, models / "reward_model")
    with refused(expected, models.parent):
        Scorer(models / "reward_model", "hh", pl.DataFrame(schema=["unit", "layer", "neuron"]), CPU)
    put("model.gguf", POINTER, models)
    with refused("/model.gguf: a git-lfs pointer", models.parent):
        prepare_backbone(GgufModel(kind="gguf", path="model.gguf"), str(models), models / "new")


def lead_nowhere(name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../gone")


@pytest.mark.parametrize("name", [*READ, "added_tokens.json", "given.json"])
def test_a_link_to_nothing_is_called_so(name: str, models: Path) -> None:
    """It would be taken for a file that is not there, and a default in its place."""
    expected = rf"^{models}/\w+/{name}: a link to \.\./gone, which is not there; put that back, or link it anew$"
    for folder in ("backbone", "reward_model"):
        lead_nowhere(name, models / folder)
    with refused(expected, models.parent):
        Scorer(models / "reward_model", None, pl.DataFrame(schema=["unit", "layer", "neuron"]), CPU)
    if name != "given.json":  # of which a backbone has none
        with refused(expected, models.parent):
            prepare(models)


def test_what_is_not_read_may_be_as_it_likes(models: Path) -> None:
    put("pytorch_model.bin", POINTER, models / "backbone")
    put(
        "model.safetensors.index.json", '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', models / "backbone"
    )
    prepare(models)


def test_code_beside_a_known_family_is_neither_run_nor_taken_over(models: Path) -> None:
    code_of_its_own(models / "backbone")
    put("pytorch_model.bin", pickle.dumps(Trap(models / "sprung")), models / "backbone")
    prepare(models)
    new_reward_model(models.parent / "new", 0, 0.5)
    code_of_its_own(models / "reward_model")
    adopt_reward_model(models / "reward_model", models.parent / "new", models.parent / "adopted", {})
    load_reward_model(models.parent / "adopted", CPU)
    assert not (models / "sprung").exists()
    for folder in ("new", "adopted"):
        names = {file.suffix for file in (models.parent / folder).iterdir()}
        assert names == {".json", ".safetensors"} | ({".jinja"} if folder == "adopted" else set())


def test_a_tokenizer_that_transformers_makes_up_is_one_line(models: Path) -> None:
    """Of GPT-2 without its files it would be one that knows no words, and every text would be empty."""
    shutil.rmtree(models / "backbone")
    save_backbone("gpt2", models / "backbone")
    remove("tokenizer*", models / "backbone")
    with refused(
        r"backbone: its tokenizer knows no words \(tokenizer.json is missing or empty\); give it", models.parent
    ):
        prepare(models)


def test_masks_and_heads_of_other_tasks_do_no_harm(models: Path) -> None:
    """Published files of GPT-2 hold causal masks, those of others rotary frequencies, or a head."""
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2), "v_head.summary.weight": torch.ones(1, 16)}
    rewrite(models / "backbone", lambda t: t.update(more))
    prepare(models)
    save_backbone("gpt2", models / "gpt2")
    rewrite(models / "gpt2", lambda t: t.update({"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}))
    load_backbone(models / "gpt2", CPU)


def test_a_folder_may_have_any_name(models: Path) -> None:
    place = models.rename(models.parent / "mit Umläuten [und] 'Zeichen' 模型")
    prepare_backbone(FolderModel(kind="pretrained", path=f"{place.name}/backbone"), str(place.parent), place / "new")
    load_tokenizer(place / "new")


# --- GGUF -----------------------------------------------------------------------------------------------------


def write_gguf(family: str, file: Path) -> None:
    writer = gguf.GGUFWriter(file, family)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUF: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: file.touch(),
    "text": lambda file: file.write_text("GGUF, honestly"),
    "a header alone": lambda file: file.write_bytes(b"GGUF" + bytes(20)),
    "cut off": both(partial(write_gguf, "llama"), lambda file: file.write_bytes(file.read_bytes()[:-40])),
    "another family": partial(write_gguf, "bert"),
    "no vocabulary": partial(write_gguf, "llama"),
    "pickle": lambda file: file.write_bytes(pickle.dumps(Trap(file.with_name("sprung")))),
}


@pytest.mark.parametrize("fault", GGUF)
def test_a_damaged_gguf_file_is_one_line(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    GGUF[fault](file)
    with refused(rf"^{file}: its content cannot be used \(.*; give it complete files", tmp_path):
        prepare_backbone(GgufModel(kind="gguf", path=file.name), str(tmp_path), tmp_path / "new")


# --- reward models --------------------------------------------------------------------------------------------

REWARD_MODELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no head": (
        lambda f: rewrite(f, lambda t: t.pop("score.weight")),
        "no head among its tensors",
    ),
    "head that is no number": (
        lambda f: rewrite(f, lambda t: t["score.weight"].fill_(torch.nan)),
        r"not finite in tensor score\.weight",
    ),
    "pickle": (pickle_only, "pickled weights are not loaded; rmtension convert"),
    "activation that nobody knows": (lambda f: configure(f, hidden_act="mine"), r"'hidden_act' in config\.json"),
    "older weights beside newer shards": (newer_shards, "remove the weights that are not meant"),
    "cut off": (
        lambda f: put("model.safetensors", (f / "model.safetensors").read_bytes()[:99], f),
        "its weights cannot",
    ),
    "no tokenizer": (partial(remove, "tokenizer*"), "tokenizer"),
    "two labels": (
        lambda f: rewrite(f, lambda t: t.update({"score.weight": t["score.weight"].repeat(2, 1)})),
        r"2 labels \(0, 1\): name the one that is the reward",
    ),
    "no configuration": (partial(remove, "config.json"), r"config\.json"),
}


@pytest.mark.parametrize("fault", REWARD_MODELS)
def test_a_damaged_reward_model_is_neither_adopted_nor_scored_with(fault: str, models: Path) -> None:
    spoil, expected = REWARD_MODELS[fault]
    folder = models / "reward_model"
    spoil(folder)
    with refused(f"^{folder}: .*{expected}", models.parent):
        adopt_reward_model(folder, models / "backbone", models.parent / "adopted", {})
    with refused(f"^{folder}: .*{expected}", models.parent):
        Scorer(folder, "hh", pl.DataFrame(schema=["unit", "layer", "neuron"]), CPU)


def test_weights_that_a_device_does_not_hold_are_one_line(models: Path) -> None:
    for load, kind in ((load_reward_model, "reward_model"), (load_backbone, "backbone")):
        short = patch.object(torch.nn.Module, "to", side_effect=torch.OutOfMemoryError("out of memory"))
        line = f"^out of device memory with the weights of {models / kind} alone: take a larger GPU, or the CPU"
        with refused(line, models), short:
            load(models / kind, CPU)


def huge_head(folder: Path) -> None:
    rewrite(folder, lambda t: t["score.weight"].fill_(3e38))


def test_rewards_that_are_no_numbers_do_not_pass_for_wrong_answers(models: Path) -> None:
    huge_head(models / "reward_model")
    scorer = Scorer(models / "reward_model", "hh", pl.DataFrame(schema=["unit", "layer", "neuron"]), CPU)
    with refused(r"reward_model: 2 rewards are not finite: train it anew with a lower training\.learning_rate", models):
        list(scorer.answers([("", {"chosen": "a good answer", "rejected": "a bad one"})]))


# --- training -------------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    texts = {"chosen": [f"\n\nHuman: {i}?\n\nAssistant: yes" for i in range(6)], "rejected": ["\n\nHuman: n"] * 6}
    words = {name: pl.lit(name) for name in ("comparison_id", "source", "orientation")}
    pl.DataFrame(texts).with_columns(**words).write_parquet(tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def run_of(models: Path, pairs: Path, **settings: Any) -> TrainingRun:
    training = Training.model_validate({"pairs_per_step": 1, "evaluation_interval": 6} | settings)
    return TrainingRun(
        models / "backbone", pairs, pairs, code=[], settings=training, epochs=1, seed=0, budget=99, threads=1
    )


def test_a_loss_that_is_no_number_ends_training_at_its_step(models: Path, pairs: Path) -> None:
    """Long before the validation split is looked at, which comes at the sixth step."""
    run = run_of(models, pairs, learning_rate=1e30)
    expected = r"^training diverged at step [2-5]: lower training\.learning_rate = 1e\+30$"
    with refused(expected, models.parent):
        train_reward_model(run, models.parent / "checkpoint", models.parent / "output", {})


def test_a_pickle_for_a_checkpoint_is_not_loaded(models: Path, pairs: Path) -> None:
    checkpoint = models.parent / "checkpoint.pt"
    for content in (pickle.dumps(Trap(models / "sprung")), b""):
        checkpoint.write_bytes(content)
        train_reward_model(run_of(models, pairs), checkpoint, models.parent / "output", {})
        assert (models.parent / "output" / "model.safetensors").exists()
    torch.save({"key": Trap(models / "sprung")}, checkpoint)
    train_reward_model(run_of(models, pairs), checkpoint, models.parent / "output", {})
    assert not (models / "sprung").exists()


def test_texts_longer_than_max_tokens_are_one_line(models: Path, pairs: Path) -> None:
    with refused(rf"^{pairs}: none of \d+ pairs is within training\.max_tokens = 2: raise it$", models.parent):
        train_reward_model(run_of(models, pairs, max_tokens=2), models.parent / "c", models.parent / "output", {})


MADE = {"kind": "made", "family": "gpt2", "layers": 1, "width": 8, "heads": 2, "neurons": 8, "vocabulary": 300}
PRETRAINING = {
    "too little": ({"texts": 1, "epochs": 1}, r"^pretraining\.texts = 1: \d+ tokens; give more than 128$"),
    "too fast": (
        {"texts": 300, "epochs": 9, "learning_rate": 1e30},
        r"^pretraining diverged at step \d+: lower pretraining\.learning_rate = 1e\+30$",
    ),
}


@pytest.mark.parametrize("case", PRETRAINING)
def test_a_backbone_that_cannot_be_made_is_one_line(case: str, tmp_path: Path) -> None:
    settings, expected = PRETRAINING[case]
    with pytest.raises(Exception, match=expected):
        make_backbone(MadeModel.model_validate(MADE | {"pretraining": settings}), tmp_path / "new")


def test_the_tokenizer_of_a_good_folder_is_read(models: Path) -> None:
    """As AutoTokenizer reads it: what refuses bad ones leaves good ones alone."""
    ours, plain = load_tokenizer(models / "backbone"), AutoTokenizer.from_pretrained(models / "backbone")
    assert ours("a good answer")["input_ids"] == plain("a good answer")["input_ids"]
