"""What version 5 of transformers saves, made such that version 4 reads it alike; docs/interchange.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

Settings = dict[str, Any]


def add_to_config(file: Path) -> None:
    """Say in a config.json in version 4's names, too, what it says of rotary positions."""
    config = read(file)
    for part in (config, config.get("text_config", {})):
        if part.get("rope_parameters"):
            part |= rotary_positions(part)
    write(config, file)


def rotary_positions(config: Settings) -> Settings:
    """The rope_parameters of a configuration under the names of version 4."""
    rope, sliding = config["rope_parameters"], None
    if "full_attention" in rope:  # each kind of layer has its own
        rope, sliding = rope["full_attention"], rope["sliding_attention"]
    rope = dict(rope)
    base, part = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
    rope.pop("type", None)  # what rope_type was called before; version 4 reads it first
    older = {"rope_theta": base}
    if config["model_type"] == "gpt_neox":
        older = {"rotary_emb_base": base, "rotary_pct": part}
    if config["model_type"] == "phi3" and part is not None:
        older["partial_rotary_factor"] = part
    if rope["rope_type"] != "default":
        older["rope_scaling"] = scaling(rope, config["max_position_embeddings"])
    if sliding:  # never scaled in version 4; Gemma 3 alone has a base of their own
        has_words = sliding["rope_type"] == "default"
        if config["model_type"] == "gemma3_text":
            older["rope_local_base_freq"] = sliding["rope_theta"]
        else:
            has_words &= sliding["rope_theta"] == base
        if not has_words:
            older["rope_scaling"] = {}
    return older


def scaling(rope: Settings, positions: int) -> Settings:
    """Scaled positions in version 4's words. For what it would compute otherwise nothing: that it refuses."""
    match rope["rope_type"]:
        case "linear" | "dynamic" | "llama3":
            return rope
        case "yarn" if rope.get("truncate", True):
            # Beside the pretrained length, version 4 takes positions / length for the factor, whatever that is.
            length = rope["original_max_position_embeddings"]
            if length == positions:
                return {key: value for key, value in rope.items() if key != "original_max_position_embeddings"}
            if rope["factor"] == positions / length:
                return rope
    return {}


def add_to_tokenizer(file: Path, tokenizer: Any) -> None:
    """Make a tokenizer_config.json one with which both versions have the ids of the tokenizer.json beside it."""
    own, settings = tokenizer.backend_tokenizer, read(file)
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # a family's own class would make parts of it anew
    settings["model_input_names"] = tokenizer.model_input_names  # GPT-2 would add token types to its embeddings
    # Version 4 has another name for them. One that is a mere word of the vocabulary would be cut out of other words.
    special = {token.content for token in own.get_added_tokens_decoder().values()}
    named = settings.pop("extra_special_tokens", [])
    settings["additional_special_tokens"] = [token for token in named if token in special]
    if isinstance(own.pre_tokenizer, pre_tokenizers.ByteLevel):
        settings["add_prefix_space"] = own.pre_tokenizer.add_prefix_space  # put in place of the file's own
    write(settings, file)


def read(file: Path) -> Settings:
    settings: Settings = json.loads(file.read_text(encoding="utf-8"))
    return settings


def write(settings: Settings, file: Path) -> None:
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
