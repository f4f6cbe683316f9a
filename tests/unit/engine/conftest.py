"""A saved reward model of every family."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import WORDS, random_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.auto import tokenization_auto

from rmtension.engine.reward_model import save_reward_model


@pytest.fixture
def folder(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved reward model whose padding token is its end-of-text token, w0."""
    # Families whose tokenizers transformers reads by rules of its own, whatever is saved; Qwen2 is one.
    monkeypatch.setattr(tokenization_auto, "MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS", set())
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0", pad_token="w0")
    save_reward_model(random_model(family), tokenizer, tmp_path / "rm")
    return tmp_path / "rm"
