"""What a folder may hold in place of a model that can be read: each kind told by its files, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from rmtension.base.errors import UserError
from rmtension.study.inputs import WEIGHTS, model_files

PICKLES = ("pytorch_model*.bin", "consolidated*.pth", "*.pt", "*.ckpt")


def settings_of(file: Path) -> dict[str, Any]:
    """The content of a JSON file; nothing where there is none, or another content, of which whoever reads it says."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def has(folder: Path, *patterns: str) -> bool:
    return any(any(folder.glob(pattern)) for pattern in patterns)


def no_folder(folder: Path) -> str | None:
    elsewhere = "no such folder here; a model of the hub has one in hub/ once a study has fetched it"
    return None if folder.is_dir() else elsewhere


def adapter(folder: Path) -> str | None:
    if not has(folder, "adapter_config.json") or has(folder, "model*.safetensors"):
        return None
    base = settings_of(folder / "adapter_config.json").get("base_model_name_or_path", "its base")
    return f"an adapter of {base}, no model: merge it into that (peft's merge_and_unload), and save the whole"


def quantised(folder: Path) -> str | None:
    settings = settings_of(folder / "config.json").get("quantization_config")
    if not isinstance(settings, dict):
        return None
    return f"quantised weights ({settings.get('quant_method', 'of no named method')}) are not read: take the whole ones"


def code_of_its_own(folder: Path) -> str | None:
    settings = settings_of(folder / "config.json")
    classes = settings.get("architectures") or []
    unknown = [name for name in classes if isinstance(name, str) and not hasattr(transformers, name)]
    if not settings.get("auto_map") or not unknown:
        return None
    what = f"config.json names {unknown[0]}, which is code that comes with the model"
    return f"{what}: that is never run, and what it does with its tensors is not known; take a model without"


def tokenizer_of_its_own(folder: Path) -> str | None:
    settings = settings_of(folder / "tokenizer_config.json")
    if not settings.get("auto_map") or has(folder, "tokenizer.json"):
        return None
    return "its tokenizer is code that comes with the model: that is never run; give it a tokenizer.json"


def pickled(folder: Path) -> str | None:
    if has(folder, "*.safetensors") or not has(folder, *PICKLES):
        return None
    return f"pickled weights are not loaded; rmtension convert {folder} writes them as safetensors, tensors only"


def without_weights(folder: Path) -> str | None:
    if has(folder, "*.safetensors"):
        return None
    others = {
        "*.gguf": "GGUF, which has no place for a head",
        "*.onnx": "ONNX",
        "*.h5": "TensorFlow",
        "*.msgpack": "Flax",
    }
    found = [name for pattern, name in others.items() if has(folder, pattern)]
    return f"no *.safetensors{f', but {found[0]}' if found else ''}: give it weights"


def weights_elsewhere(folder: Path) -> str | None:
    """A setting by which transformers would read other weights than those that are linked and fetched."""
    named = settings_of(folder / "config.json").get("transformers_weights")
    said = f"'transformers_weights' in config.json names {named}: call that {WEIGHTS}, and remove the setting"
    return said if named else None


def without_settings(folder: Path) -> str | None:
    return None if has(folder, "config.json") else "config.json is missing"


KINDS: list[Callable[[Path], str | None]] = [
    no_folder, adapter, quantised, code_of_its_own, tokenizer_of_its_own, pickled, without_weights, weights_elsewhere,
    without_settings,
]  # fmt: skip


def refuse_other_kinds(folder: Path) -> None:
    """UserError, one line, where a folder holds none of the models that this project reads."""
    model_files(folder)  # says of a link to nothing that it is one; below, it would count as missing
    for kind in KINDS:
        if (what := kind(folder)) is not None:
            raise UserError(f"{folder}: {what}")
