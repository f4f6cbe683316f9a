"""A kind's inputs are the files that it reads, in a folder as on the hub, and nothing that lies beside them."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from pydantic import TypeAdapter
from tiny_models import save_backbone

from rmtension.base.errors import UserError
from rmtension.data.benchmarks import read_benchmark
from rmtension.data.hub import wanted
from rmtension.data.pairs import read_hh_pairs
from rmtension.engine.backbones import prepare_backbone
from rmtension.engine.reward_model import load_backbone, load_tokenizer
from rmtension.study.benchmarks import Benchmark, PublishedBenchmark
from rmtension.study.data import HHPairs, PairSource
from rmtension.study.inputs import found, model_files
from rmtension.study.models import BackboneSource, FolderModel, GgufModel

PLACE = "repository"
INDEX = json.dumps({"metadata": {}, "weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}})
TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
             "merges.txt", "tokenizer.model", "chat_template.jinja"]  # fmt: skip
# Of a clone, of downloads, of editors, of systems; of other formats and precisions; of training.
BESIDE = [
    ".git/FETCH_HEAD", ".git/index", ".git/data/filtered-0.parquet", ".git/Pairwise_set/a.json", ".gitattributes",
    "README.md", "LICENSE.txt", "requirements.txt", ".cache/huggingface/download/config.json.metadata",
    "config.json.lock", "model.safetensors.lock", "data/.filtered-0.parquet", "data/filtered-0.parquet.lock",
    "._config.json", "train.jsonl.gz.part", "helpful/.train.jsonl", "helpful/train.jsonl.lock", "helpful/notes/a.jsonl",
    "adapter_config.json", "adapter_model.safetensors", "consolidated.safetensors", "model.fp16.safetensors",
    "model.fp32-1-of-2.safetensors", "model.safetensors.index.fp32.json", "model-1-of-3.safetensors",
    "pytorch_model.bin", "tf_model.h5", "modeling.py", "onnx/config.json", "onnx/model.safetensors",
    "checkpoint-9/config.json", "checkpoint-9/model.safetensors", "original/tokenizer.model", "generation_config.json",
    "trainer_state.json", "training_args.bin", "provenance.json", "checksums.json", "data/raw-0.parquet",
    "Pairwise_set/README.md", "Pairwise_set/.a.json", "BoN_set/a.json.bak", "total_dataset.json.gz",
]  # fmt: skip
READ = {  # kind -> what else its part of a study says, and the files that it reads, worked out by hand
    "pretrained": ({}, ["config.json", "model.safetensors", *TOKENIZER]),
    "hh-rlhf": ({"folder": "helpful"}, ["helpful/test.jsonl", "helpful/train.jsonl.gz"]),
    "reward-bench": ({}, ["data/filtered-0.parquet", "data/filtered-1.parquet"]),
    "reward-bench-2": ({}, ["data/test-0.parquet"]),
    "rm-bench": ({}, ["total_dataset.json"]),
    "rmb-pairwise": ({}, ["RMB_dataset/Pairwise_set/Helpfulness/a.json", "Pairwise_set/a.json"]),
    "rmb-best-of-n": ({}, ["RMB_dataset/BoN_set/b.json"]),
}  # fmt: skip


def lay(folder: Path, *names: str) -> Path:
    """Files that hold their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("others", [[], BESIDE], ids=["alone", "beside"])
def test_inputs_are_what_the_kind_reads(kind: str, others: list[str], tmp_path: Path) -> None:
    more, read = READ[kind]
    part: Any = TypeAdapter(BackboneSource | PairSource | Benchmark).validate_python(
        {"kind": kind, "path": PLACE, **more}
    )
    folder = lay(tmp_path / PLACE, *read, *others)
    assert sorted(part.files(str(tmp_path))) == sorted(folder / name for name in read)
    listed = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    assert sorted(wanted(kind, listed, folder, "")) == sorted(read)
    for name in read:
        (folder / name).unlink()
    assert part.files(str(tmp_path)) == []


def test_a_file_is_its_own_input(tmp_path: Path) -> None:
    lay(tmp_path, "a.parquet", "a.parquet.lock")
    benchmark = PublishedBenchmark(kind="reward-bench", path="a.parquet")
    assert benchmark.files(str(tmp_path)) == [tmp_path / "a.parquet"]


def test_shards_go_by_the_index(tmp_path: Path) -> None:
    """Not by their names: others of the same form can be left from before, or be another precision."""
    read = ["config.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors", "tokenizer.json"]
    folder = lay(tmp_path, *read, *BESIDE)
    (folder / "model.safetensors.index.json").write_text(INDEX)
    assert [file.name for file in model_files(folder)] == sorted([*read, "model.safetensors.index.json"])
    (folder / "model-2-of-2.safetensors").unlink()
    assert "model-2-of-2.safetensors" not in {file.name for file in model_files(folder)}
    # With both, transformers takes the one file.
    lay(tmp_path, "model.safetensors")
    assert {file.name for file in model_files(folder) if file.suffix == ".safetensors"} == {"model.safetensors"}


NO_INDEX = [
    "",
    "[1]",
    "{}",
    '{"weight_map": [1]}',
    '{"weight_map": {"a": 1}}',
    '{"weight_map": {"a": "../b.safetensors"}}',
]


@pytest.mark.parametrize("index", NO_INDEX)
def test_what_is_no_index_names_nothing(index: str, tmp_path: Path) -> None:
    folder = lay(tmp_path / "model", "config.json", "../b.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    assert [file.name for file in model_files(folder)] == ["config.json", "model.safetensors.index.json"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the files that Python opens while the test runs."""
    opened = set()
    plain = builtins.open

    def noting(file: Any, *arguments: Any, **settings: Any) -> Any:
        opened.add(str(file))
        return plain(file, *arguments, **settings)

    monkeypatch.setattr(builtins, "open", noting)
    return opened


def test_transformers_opens_nothing_but_inputs(tmp_path: Path, opened: set[str]) -> None:
    save_backbone("llama", tmp_path)
    lay(tmp_path, *(name for name in BESIDE if not (tmp_path / name).exists()))
    opened.clear()
    load_tokenizer(tmp_path)
    load_backbone(tmp_path, torch.device("cpu"))
    within = {name for name in opened if name.startswith(str(tmp_path))}
    assert {f"{tmp_path}/config.json", f"{tmp_path}/tokenizer_config.json"} <= within
    assert within <= set(map(str, model_files(tmp_path)))


def test_of_a_gguf_file_nothing_beside_it_is_opened(tmp_path: Path, opened: set[str]) -> None:
    lay(tmp_path, *TOKENIZER, "config.json")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    opened.clear()
    with pytest.raises(UserError, match=r"model\.gguf: its content cannot be used"):  # it holds no model
        prepare_backbone(GgufModel(kind="gguf", path="model.gguf"), str(tmp_path), tmp_path / "new")
    assert {Path(name).name for name in opened} >= {"model.gguf"}
    assert {name for name in opened if name.startswith(f"{tmp_path}/")} <= {f"{tmp_path}/model.gguf"}


def test_a_backbone_in_shards_is_linked_whole_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_backbone("llama", folder)
    model = load_backbone(folder, torch.device("cpu"))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="8KB")
    lay(folder, "adapter_model.safetensors", "model.fp16.safetensors", "onnx/config.json", "training_args.json")
    prepare_backbone(FolderModel(kind="pretrained", path="model"), str(tmp_path), tmp_path / "linked")
    names = {file.name for file in (tmp_path / "linked").iterdir()}
    assert {"adapter_model.safetensors", "model.fp16.safetensors", "onnx", "training_args.json"} & names == set()
    assert len({name for name in names if name.endswith(".safetensors")}) > 2
    linked = load_backbone(tmp_path / "linked", torch.device("cpu")).state_dict()
    assert all(torch.equal(linked[name], tensor) for name, tensor in model.state_dict().items())


def test_readers_pass_over_what_lies_beside(tmp_path: Path) -> None:
    row = json.dumps({"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"})
    pairs = lay(tmp_path / "pairs", *BESIDE) / "helpful"
    for split in ("train", "test"):
        (pairs / f"{split}.jsonl").write_text(row)
    source = HHPairs(kind="hh-rlhf", path="pairs", folder="helpful")
    assert [len(read_hh_pairs(source, split, str(tmp_path))) for split in ("train", "test")] == [1, 1]
    benchmark = PublishedBenchmark(kind="rmb-best-of-n", path="rmb", tasks=["Helpfulness/Brainstorming"])
    file = lay(tmp_path / "rmb", *BESIDE) / "BoN_set" / "Helpfulness" / "Brainstorming.json"
    file.parent.mkdir()
    best = {"conversation_input": [{"role": "user", "content": "Hi"}], "bon_best": {"answer": "Yes"},
            "loser_list": [{"answer": "No"}], "category_path": "BoN_set/Helpfulness/Brainstorming"}  # fmt: skip
    file.write_text(json.dumps([best]))
    assert len(read_benchmark("rmb", benchmark, str(tmp_path))) == 1
    assert found(tmp_path / "rmb", ["**/*.json"]) != [file]  # there is more that a wider pattern would find
