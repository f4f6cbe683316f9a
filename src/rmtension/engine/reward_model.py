"""A reward model: a backbone and a head with one output, read at each candidate's last token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from rmtension.base.errors import UserError
from rmtension.base.files import cause_of, is_there, refuse_pointer
from rmtension.engine.architectures import architecture, text_part
from rmtension.engine.attention import PACKED
from rmtension.engine.faults import setting_at_fault
from rmtension.engine.heads import Choice, read_head
from rmtension.engine.kinds import refuse_other_kinds
from rmtension.engine.older_names import add_to_config, add_to_tokenizer
from rmtension.engine.packing import Batch, Packed, Tokens, pack
from rmtension.study.inputs import GIVEN, INDEX, WEIGHTS, model_files, shards
from rmtension.study.naming import BUFFER

NO_CODE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
COMPLETE = "give it complete files, its own, from where it was made"
TOKENIZER = "tokenizer.json"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# Messages in the form of the training texts, for tools that render a dialogue themselves; a system message has no
# place in it and is an error.
CHAT_TEMPLATE = (
    r"{% for message in messages %}{{ {'user': '\n\nHuman: ', 'assistant': '\n\nAssistant: '}[message['role']] "
    r"+ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)


@contextmanager
def opening(folder: Path, part: str) -> Iterator[None]:
    """Turn what transformers says of a damaged or foreign folder, in exceptions of any kind, into one line."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        cause, advice = cause_of(error), COMPLETE
        if setting := setting_at_fault(folder, part):
            cause, advice = f"{setting}: {cause}", "correct it"
        raise UserError(f"{folder}: its {part} cannot be used ({cause}); {advice}") from error


def load_config(folder: Path) -> Any:
    """The configuration in config.json; UserError where transformers or this project does not know the family.

    Whatever is read of a folder, this is first: a file that git-lfs has not fetched is named here, of all those read.
    """
    for file in model_files(folder):
        refuse_pointer(file)
    with opening(folder, "config.json"):
        # First, as transformers may not know it.
        family: Any = read_settings(folder / "config.json").get("model_type")
        architecture(family)
        return AutoConfig.from_pretrained(folder, **NO_CODE)


def read_settings(file: Path) -> dict[str, Any]:
    """Keys and values of a JSON file; ValueError where it holds anything else, of which libraries say little."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise ValueError(f"'{type(settings).__name__}' in place of keys with values")
    return settings


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a backbone or reward model, with a padding token (end-of-text where it has none).

    Its ids are those of tokenizer.json; of a folder without that file, those of what transformers makes of the others.
    """
    config = load_config(folder)
    with opening(folder, "tokenizer"):
        for file in (folder / name for name in TOKENIZER_SETTINGS if (folder / name).exists()):
            try:
                read_settings(file)
            except ValueError as error:
                raise ValueError(f"{file.name}: {error}") from None
        own = (folder / TOKENIZER).exists()
        tokenizer = read_tokenizer(folder) if own else AutoTokenizer.from_pretrained(folder, **NO_CODE)
        known = tokenizer("a b", add_special_tokens=False)["input_ids"]
    if not known:
        raise UserError(f"{folder}: its tokenizer knows no words (tokenizer.json is missing or empty); {COMPLETE}")
    check_ids(folder, tokenizer, config.get_text_config().vocab_size)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"{folder}: its tokenizer has neither a padding nor an end-of-text token: name one in its files"
        )
    return tokenizer


def check_ids(folder: Path, tokenizer: Any, embeddings: int) -> None:
    """UserError where the tokenizer can give an id for which the model has no embedding."""
    names = {number: name for name, number in tokenizer.get_vocab().items()}
    names |= {number: "put around each text" for number in tokenizer("")["input_ids"] if number not in names}
    last = max(names)
    if last >= embeddings:
        sizes = f"its tokenizer has {last + 1} tokens, its model {embeddings} embeddings"
        raise UserError(f"{folder}: no embedding for token '{names[last]}': {sizes}; {COMPLETE}")


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of tokenizer.json, under the names that the files beside it give to its special tokens.

    AutoTokenizer would take what the class in tokenizer_config.json does by itself, and drop the rules of the file: of
    SmolLM2 (GPT2Tokenizer) the one that keeps digits apart.
    """
    own = Tokenizer.from_file(str(folder / TOKENIZER))
    own.no_truncation()  # longer texts are left out and counted
    own.no_padding()
    if isinstance(own.model, BPE):
        own.model.dropout = None  # merges left out at random, by which some were pretrained: never the same ids twice
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, **NO_CODE)
    for token in sorted(tokenizer.get_vocab().keys() - own.get_vocab().keys()):
        raise UserError(f"its settings name a token '{token}' that its {TOKENIZER} lacks; {COMPLETE}")
    # Nor what the settings do to it: a token of the vocabulary that they name, for one, would be cut out of every word.
    tokenizer._tokenizer, tokenizer.split_special_tokens = own, False
    if tokenizer.eos_token is None:  # GPT-2's own files leave it to the class
        default = AutoTokenizer.from_pretrained(folder, **NO_CODE).eos_token
        tokenizer.eos_token = default if default in own.get_vocab() else None
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save it so that transformers 5 and 4 both read tokenizer.json as it is."""
    tokenizer.save_pretrained(folder)
    add_to_tokenizer(folder / "tokenizer_config.json", tokenizer)


def load_whole(kind: Any, folder: Path, **settings: Any) -> tuple[Any, list[str]]:
    """A model of one of transformers' Auto classes, in float32 and in evaluation mode, and the names of the tensors
    that its body has no place for; its own head is new where its files have another. No code of the folder is run.

    UserError where loading would unpickle, leave out or make up a tensor of the body, or read what is no number.
    """
    refuse_other_kinds(folder)
    load_config(folder)
    both = sorted(name for name in {WEIGHTS, *shards(folder / INDEX)} if (folder / name).exists())
    if WEIGHTS in both and len(both) > 1:  # transformers would take the former, be they older or not
        raise UserError(f"{folder}: {WEIGHTS} and, of {INDEX}, {both[0]}: remove the weights that are not meant")
    with opening(folder, "weights"):
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True,
            attn_implementation=PACKED, return_dict=True, **NO_CODE, **settings,
        )  # fmt: skip
    state = model.state_dict()
    body, prefix = {name for name, _ in model.base_model.named_children()}, f"{model.base_model_prefix}."

    def is_of_head(name: str) -> bool:
        return name.removeprefix(prefix).split(".")[0] not in body

    faults = {
        "has no place for": report["unexpected_keys"],
        "misses": report["missing_keys"],
        "has another shape of": {name for name, *_ in report["mismatched_keys"]},
        "reads values that are not finite in": {k for k, t in state.items() if not (t.is_meta or t.isfinite().all())},
    }
    for fault, names in faults.items():
        for name in sorted(names):
            if not BUFFER.search(name) and not is_of_head(name):
                raise UserError(
                    f"{folder}: {type(model).__name__} of its config.json {fault} tensor {name}; {COMPLETE}"
                )
    return model.eval(), sorted(filter(is_of_head, report["unexpected_keys"]))


def new_reward_model(backbone: Path, seed: int, head_deviation: float) -> Any:
    """A backbone under a fresh head drawn from N(0, head_deviation^2) by `seed`, float32 weights."""
    model, _ = load_whole(AutoModelForSequenceClassification, backbone, num_labels=1)
    model.config.get_text_config().pad_token_id = load_tokenizer(backbone).pad_token_id
    model.requires_grad_(False)  # of what no text comes to, as a tower that sees
    for part in (text_part(model), model.score):
        part.requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=generator) * head_deviation)
    return model  # in evaluation mode throughout: the study trains without dropout


def load_reward_model(folder: Path, device: torch.device, choice: Choice | None = None, **settings: Any) -> Any:
    """A reward model in float32, in evaluation mode; its head is `score`, with one output, whatever its files call it.

    choice: what a study says of the head; None for what it has said beside the files.
    """
    model, foreign = load_whole(AutoModelForSequenceClassification, folder, **settings)
    model.score = read_head(folder, model.config, foreign, choice or chosen(folder))
    model.config.num_labels = model.num_labels = 1
    return moved(model, folder, device)


@contextmanager
def enough_memory(otherwise: str) -> Iterator[None]:
    """What is done within the context takes the same of a device's memory whatever the batches: UserError with that
    line where it does not suffice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of device memory {otherwise}") from error


def moved(model: Any, folder: Path, device: torch.device) -> Any:
    """The model on a device; UserError where its memory does not suffice for the weights alone."""
    instead = "take a larger GPU, or the CPU (compute.gpus: 0, or of a command CUDA_VISIBLE_DEVICES=)"
    with enough_memory(f"with the weights of {folder} alone: {instead}"):
        return model.to(device)


def chosen(folder: Path) -> Choice:
    """What the study that a given reward model is of says of its head."""
    file = folder / GIVEN
    said = read_settings(file) if is_there(file) else {}
    return Choice(*(said.get(name) for name in Choice._fields))


def not_finite(folder: Path, what: str) -> UserError:
    """What is to be raised where numbers of the reward model in `folder` are not finite."""
    trained = "train it anew with a lower training.learning_rate"
    return UserError(f"{folder}: {what} are not finite: {'leave it out' if (folder / GIVEN).exists() else trained}")


def load_backbone(folder: Path, device: torch.device) -> Any:
    """A bare backbone in float32, in evaluation mode."""
    return moved(load_whole(AutoModel, folder)[0], folder, device)


def save_reward_model(model: Any, tokenizer: Any, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """A folder that loads with AutoModelForSequenceClassification.from_pretrained, in transformers 5 and 4.

    It holds the model's own weights unless others are given.
    """
    tokenizer.chat_template = CHAT_TEMPLATE
    model.save_pretrained(folder, state_dict=weights)
    add_to_config(folder / "config.json")
    save_tokenizer(tokenizer, folder)


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Each text's token ids, as the tokenizer's plain call gives them (no end-of-text token is added)."""
    if not texts:
        return []
    return [np.asarray(ids, dtype=np.int64) for ids in tokenizer(list(texts))["input_ids"]]


def tokenised_sides(
    tokenizer: Any, chosen: Sequence[Sequence[str]], rejected: Sequence[Sequence[str]]
) -> Iterator[tuple[list[Tokens], list[Tokens]]]:
    """Of each comparison the token ids of its chosen and of its rejected texts, all tokenised at once."""
    flat = [text for c, r in zip(chosen, rejected, strict=True) for text in (*c, *r)]
    tokens = iter(tokenise(tokenizer, flat))
    for c, r in zip(chosen, rejected, strict=True):
        yield list(islice(tokens, len(c))), list(islice(tokens, len(r)))


def pack_comparisons(
    tokenizer: Any, chosen: Sequence[Sequence[str]], rejected: Sequence[Sequence[str]], max_tokens: int
) -> tuple[list[int], list[Packed]]:
    """Pack the comparisons whose every candidate has between 1 and `max_tokens` tokens.

    Returns the positions of the comparisons that were kept, and those comparisons packed.
    """
    kept, packed = [], []
    for i, (of_chosen, of_rejected) in enumerate(tokenised_sides(tokenizer, chosen, rejected)):
        if all(0 < len(candidate) <= max_tokens for candidate in (*of_chosen, *of_rejected)):
            kept.append(i)
            packed.append(pack(of_chosen, of_rejected))
    return kept, packed


def hidden_states(model: Any, batch: Batch) -> Tensor:
    """Last hidden states [T, width] of a packed batch, of a reward model or a bare backbone."""
    if model.config._attn_implementation != PACKED:  # texts would see each other
        raise ValueError(f"a model loaded without attn_implementation={PACKED!r}")
    output = model.base_model(
        input_ids=batch.tokens[None],
        attention_mask=torch.ones_like(batch.tokens[None]),  # or transformers would seek texts in the positions
        position_ids=batch.positions[None],
        packed=batch,
        use_cache=False,
    )
    states: Tensor = output.last_hidden_state[0]
    return states


def rewards(model: Any, states: Tensor) -> Tensor:
    """Reward [...] by the head of hidden states [..., width]; in bfloat16 many would be equal that are not."""
    with torch.autocast(states.device.type, enabled=False):
        reward: Tensor = model.score(states.to(next(model.score.parameters()).dtype)).squeeze(-1)
    return reward


def score(model: Any, batch: Batch) -> Tensor:
    """Reward [C] of every candidate of a packed batch."""
    return rewards(model, hidden_states(model, batch)[batch.end])
