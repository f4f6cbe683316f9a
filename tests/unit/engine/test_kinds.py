"""What a folder holds in place of a model is said in one line, by its files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rmtension.base.errors import UserError
from rmtension.engine.kinds import refuse_other_kinds

OWN_CODE = {"architectures": ["LlamaForRewardModelWithGating"], "auto_map": {"AutoModel": "modeling.X"}}
KINDS: dict[str, tuple[dict[str, object], str]] = {
    "adapter": (
        {"adapter_config.json": {"base_model_name_or_path": "org/base"}, "adapter_model.safetensors": ""},
        "an adapter of org/base, no model: merge it",
    ),
    "quantised": (
        {"config.json": {"quantization_config": {"quant_method": "gptq"}}, "model.safetensors": ""},
        r"quantised weights \(gptq\)",
    ),
    "code": ({"config.json": OWN_CODE, "model.safetensors": ""}, "names LlamaForRewardModelWithGating, which is code"),
    "code of a tokenizer": (
        {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["tokens.T", None]}}, "model.safetensors": ""},
        r"its tokenizer is code .* never run; give it a tokenizer\.json",
    ),
    "pickle": ({"config.json": {}, "pytorch_model-00001-of-00002.bin": ""}, "rmtension convert"),
    "GGUF": ({"model.gguf": ""}, r"no \*\.safetensors, but GGUF"),
    "ONNX": ({"model.onnx": ""}, "ONNX"),
    "no settings": ({"model.safetensors": ""}, r"config\.json is missing"),
    "weights of another name": (
        {"config.json": {"transformers_weights": "mine.safetensors"}, "mine.safetensors": ""},
        "names mine.safetensors: call that model.safetensors",
    ),
    "nothing": ({"config.json": {}, "tokenizer.json": {}}, r"no \*\.safetensors: give it weights"),
}


def put(folder: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_not_read_is_named(kind: str, tmp_path: Path) -> None:
    files, line = KINDS[kind]
    put(tmp_path, files)
    with pytest.raises(UserError, match=line) as raised:
        refuse_other_kinds(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(raised.value)


def test_a_model_of_transformers_own_is_none_of_them_whatever_else_lies_beside_it(tmp_path: Path) -> None:
    settings = {"architectures": ["LlamaForSequenceClassification"], "auto_map": {"AutoModel": "modeling.X"}}
    files: dict[str, object] = {
        "config.json": settings,
        "model.safetensors": "",
        "pytorch_model.bin": "",
        "adapter_config.json": {},
    }
    files |= {"tokenizer.json": "", "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["tokens.T", None]}}}
    put(tmp_path, files)
    refuse_other_kinds(tmp_path)
