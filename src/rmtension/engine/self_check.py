"""A model checks itself where it enters a study: the packed form must say of a text what the plain model says of it."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.base.files import cause_of
from rmtension.engine.architectures import longest_text
from rmtension.engine.attention import PACKED
from rmtension.engine.heads import linear_layers
from rmtension.engine.packing import Tokens, collate, common_prefix_length, pack
from rmtension.engine.reward_model import hidden_states, opening, tokenise

DIALOGUE = "\n\nHuman: How is bread made, in a few hours?\n\nAssistant: Knead 500 g of flour, let it rest, bake it."
ENDS = string.printable.strip()  # in place of its last character: what a text may end in
LONGEST, SHORTEST = 512, 64  # tokens of a probe, where the model reads so many
WORK = 2**36  # weights times tokens of a probe in between: some seconds on a CPU
NOISE = 1e-4  # of what is compared; float32 leaves some 1e-6


def dialogue_ids(folder: Path, tokenizer: Any) -> Tokens:
    """The ids of a short dialogue; UserError where they are others each time."""
    once, again = tokenise(tokenizer, [DIALOGUE, DIALOGUE])
    if not np.array_equal(once, again):
        raise UserError(f"{folder}: its tokenizer gives a text other ids each time: remove what it leaves to chance")
    return once


def probes(dialogue: Tokens, model: Any) -> list[Tokens]:
    """Two texts that begin alike, as long as the model reads where that is cheap, and another of a fourth of that."""
    cheap = min(LONGEST, max(SHORTEST, WORK // model.num_parameters()))
    length = min(cheap, longest_text(model.config))
    one, other = np.resize(dialogue, length), np.resize(dialogue[::-1], max(1, length // 4))
    return [one, np.concatenate([one[: length - len(other)], other]), other]


@contextmanager
def plain(model: Any) -> Iterator[None]:
    """Within the context, the model's attention is transformers' own, in the form that all others are to equal."""
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(PACKED)


def alone(model: Any, text: Tokens) -> Any:
    """What a model returns of one text, called as anyone calls it."""
    return model(torch.from_numpy(text)[None])


@contextmanager
def narrowed(model: Any, window: int) -> Iterator[None]:
    """Within the context, no sliding window is longer than that, or probes would have to be longer than is cheap.

    In either form a pass makes its masks by the number in the configuration, so that what holds of one number holds of
    any.
    """
    config = model.config.get_text_config()
    own = getattr(config, "sliding_window", None)
    if own:
        config.sliding_window = min(own, window)
    try:
        yield
    finally:
        if own:
            config.sliding_window = own


@contextmanager
def taking_packed(folder: Path, model: Any) -> Iterator[None]:
    """Turn whatever goes wrong with a model that is sound in its plain form into one line."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(
            f"{folder}: {type(model).__name__} of transformers {transformers.__version__} is not itself in the packed "
            f"form ({cause_of(error)}): its settings, or this release, have what that lacks, or rounding decides what "
            "its weights make of a text; take others, or see docs/adding-a-model.md, 'Traps'"
        ) from error


def distance(states: Tensor, expected: Tensor) -> float:
    """As a share of their size; not finite where states are not."""
    return float((states - expected).norm() / expected.norm())


@torch.inference_mode()
def check_states(folder: Path, model: Any, tokenizer: Any) -> None:
    """UserError where a backbone or reward model in the packed form is another one than transformers' own.

    Both forms are of the same weights in memory. What a setting, a family or a release of transformers has that the
    packed form does not know, is found here: windows under another name, attention that is not causal, another mask.
    """
    texts = probes(dialogue_ids(folder, tokenizer), model)
    window = max(1, len(texts[0]) // 3)
    with opening(folder, "model"), plain(model), narrowed(model, window):
        theirs = [alone(model.base_model, text).last_hidden_state[0] for text in texts]
    if not all(states.isfinite().all() for states in theirs):
        raise UserError(f"{folder}: its states of a text are not finite; give it whole weights and settings")
    batch = collate([pack(texts[:1], texts[1:2]), pack(texts[2:], [])], [0, 1])
    shared = common_prefix_length(texts[:2])
    of_tokens = torch.cat([theirs[0], theirs[1][shared:], theirs[2]])
    of_ends = torch.stack([states[-1] for states in theirs])
    with taking_packed(folder, model), narrowed(model, window):
        found = hidden_states(model, batch)
        # All of them together, too: in a window, a last token sees nothing of what is wrong far before it.
        off = max(distance(found, of_tokens), *map(distance, found[batch.end], of_ends))
        if not off < NOISE:
            raise ValueError(f"states of a text are off by {off:.2g} of their size")


def check_ending(folder: Path, tokenizer: Any, padding: int | None) -> None:
    """UserError where transformers, which passes over `padding`, would score another token than the last of a text."""
    for end, ids in zip(ENDS, tokenise(tokenizer, [DIALOGUE[:-1] + end for end in ENDS]), strict=True):
        if ids[-1] == padding:
            raise UserError(
                f"{folder}: its tokenizer ends a text with the padding token, one that ends in {end} for example, and "
                "transformers would score the token before it; name another pad_token in its tokenizer_config.json "
                "and pad_token_id in its config.json"
            )


@torch.inference_mode()
def check_score(folder: Path, model: Any, tokenizer: Any) -> None:
    """UserError where the score of a text that a reward model itself gives is not that of its last token."""
    text, longest = dialogue_ids(folder, tokenizer), longest_text(model.config)
    if len(text) > longest:
        raise UserError(f"{folder}: it reads {longest} tokens at most, fewer than a short dialogue has")
    with opening(folder, "model"), plain(model):
        state = alone(model.base_model, text).last_hidden_state[0, -1]
        ours, theirs = model.score(state).item(), alone(model, text).logits.item()
    if not np.isfinite(theirs):
        raise UserError(f"{folder}: its reward of a text is not finite; give it whole weights and settings")
    size = state.norm() / len(state) ** 0.5 * prod(layer.weight.norm().item() for layer in linear_layers(model.score))
    if not abs(ours - theirs) <= NOISE * size:
        raise UserError(
            f"{folder}: the score that it gives a text, {theirs:.4g}, is not that of its last token, {ours:.4g}: "
            "transformers reads another one; take another reward model"
        )
