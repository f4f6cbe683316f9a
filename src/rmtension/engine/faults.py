"""Which setting of a model's folder is at fault, as what a library says of it often names none."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from rmtension.engine.attention import PACKED


def build(_folder: Path, settings: dict[str, Any]) -> Any:
    """The model of a config.json, without weights."""
    with torch.device("meta"):
        config = AutoConfig.for_model(**settings | {"attn_implementation": PACKED})
        return AutoModelForSequenceClassification.from_config(config)


def run(folder: Path, settings: dict[str, Any]) -> None:
    """That model, on a text."""
    model = build(folder, settings)
    try:
        model.base_model(torch.zeros(1, 2, dtype=torch.long, device="meta"))
    except RuntimeError as error:
        if "meta" not in str(error).lower():  # some ask for values, which are not there
            raise


def tokenise(folder: Path, settings: dict[str, Any]) -> None:
    """A text, under a tokenizer_config.json of these settings."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "tokenizer.json").symlink_to((folder / "tokenizer.json").resolve())
        (Path(place) / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        reader: Any = PreTrainedTokenizerFast
        reader.from_pretrained(place, local_files_only=True)("a")


USES = {"tokenizer": ("tokenizer_config.json", tokenise), "model": ("config.json", run)}


def setting_at_fault(folder: Path, part: str) -> str | None:
    """The key, in its file, without which that part of a folder could be used, where it cannot with it."""
    file, use = USES.get(part, ("config.json", build))

    def usable(settings: dict[str, Any]) -> bool:
        try:
            use(folder, settings)
        except Exception:
            return False
        return True

    try:
        settings = dict(json.loads((folder / file).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if usable(settings):
        return None
    without = ((key, {k: settings[k] for k in settings.keys() - {key}}) for key in settings)
    return next((f"'{key}' in {file}" for key, others in without if usable(others)), None)
