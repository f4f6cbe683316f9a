"""Which setting of a model's folder is at fault, as what a library says of it often names none."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from rmtension.engine.attention import PACKED


def build(_folder: Path, settings: dict[str, Any]) -> None:
    """The model of a config.json, without weights."""
    with torch.device("meta"):
        config = AutoConfig.for_model(**settings | {"attn_implementation": PACKED})
        AutoModelForSequenceClassification.from_config(config)


def tokenise(folder: Path, settings: dict[str, Any]) -> None:
    """A text, under a tokenizer_config.json of these settings."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "tokenizer.json").symlink_to((folder / "tokenizer.json").resolve())
        (Path(place) / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        reader: Any = PreTrainedTokenizerFast
        reader.from_pretrained(place, local_files_only=True)("a")


USES = {"config.json": build, "tokenizer_config.json": tokenise}


def key_at_fault(file: Path) -> str | None:
    """The key of one of these files without which its settings can be used, where they cannot with it."""

    def usable(settings: dict[str, Any]) -> bool:
        try:
            USES[file.name](file.parent, settings)
        except Exception:
            return False
        return True

    try:
        settings = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if usable(settings):
        return None
    return next((key for key in settings if usable({k: settings[k] for k in settings.keys() - {key}})), None)
