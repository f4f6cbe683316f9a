"""A reward model: a backbone and a linear scalar head without bias, read at each candidate's last token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from rmtension.packing import Batch, Packed, Tokens, pack

# Messages in the form of the training texts, for tools that render a dialogue themselves; a system message has no
# place in it and is an error.
CHAT_TEMPLATE = (
    r"{% for message in messages %}{{ {'user': '\n\nHuman: ', 'assistant': '\n\nAssistant: '}[message['role']] "
    r"+ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a backbone or reward model, with a padding token (end-of-text where it has none)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def new_reward_model(backbone: Path, seed: int, head_deviation: float) -> Any:
    """A backbone under a fresh head drawn from N(0, head_deviation^2) by `seed`, float32 weights."""
    model = AutoModelForSequenceClassification.from_pretrained(backbone, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = load_tokenizer(backbone).pad_token_id
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=generator) * head_deviation)
    return model.eval()  # evaluation mode throughout: the study trains without dropout


def load_reward_model(folder: Path, device: torch.device) -> Any:
    """A trained reward model in float32, in evaluation mode."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return model.eval().to(device)


def load_backbone(folder: Path, device: torch.device) -> Any:
    """A bare backbone in float32, in evaluation mode."""
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)


def save_reward_model(model: Any, tokenizer: Any, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """A folder that loads with AutoModelForSequenceClassification.from_pretrained, in transformers 5 and 4.

    It holds the model's own weights unless others are given.
    Version 4 knows some settings by other names: without these it would refuse the tokenizer or feed GPT-2 token
    types that it adds to its embeddings, and take every model's rotary base to be 10,000.
    """
    if getattr(model.config, "rope_parameters", None):
        model.config.rope_theta = model.config.rope_parameters["rope_theta"]
    tokenizer.chat_template = CHAT_TEMPLATE
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    if settings["tokenizer_class"] == "TokenizersBackend":
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": tokenizer.model_input_names}
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Each text's token ids, as the tokenizer's plain call gives them (no end-of-text token is added)."""
    if not texts:
        return []
    return [np.asarray(ids, dtype=np.int64) for ids in tokenizer(list(texts))["input_ids"]]


def pack_comparisons(
    tokenizer: Any, chosen: Sequence[Sequence[str]], rejected: Sequence[Sequence[str]], max_tokens: int
) -> tuple[list[int], list[Packed]]:
    """Pack the comparisons whose every candidate has between 1 and `max_tokens` tokens.

    Returns the positions of the comparisons that were kept, and those comparisons packed.
    """
    sides = [(len(c), len(r)) for c, r in zip(chosen, rejected, strict=True)]
    flat = [text for c, r in zip(chosen, rejected, strict=True) for text in (*c, *r)]
    tokens = iter(tokenise(tokenizer, flat))
    kept, packed = [], []
    for i, (n_chosen, n_rejected) in enumerate(sides):
        candidates = [next(tokens) for _ in range(n_chosen + n_rejected)]
        if all(0 < len(candidate) <= max_tokens for candidate in candidates):
            kept.append(i)
            packed.append(pack(candidates[:n_chosen], candidates[n_chosen:]))
    return kept, packed


def hidden_states(model: Any, batch: Batch) -> Tensor:
    """Last hidden states [B, T, width] of a packed batch, of a reward model or a bare backbone."""
    mask = batch.mask.to(model.dtype)  # of another type, torch's attention on a CPU would misread it and say nothing
    output = model.base_model(
        input_ids=batch.tokens, attention_mask=mask, position_ids=batch.positions, use_cache=False
    )
    states: Tensor = output.last_hidden_state
    return states


def score(model: Any, batch: Batch) -> Tensor:
    """Reward [C] of every candidate of a packed batch."""
    last = hidden_states(model, batch)[batch.row, batch.end]
    reward: Tensor = model.score(last).squeeze(-1)
    return reward
