"""Attention over packed comparisons: as transformers' own, but each text sees nothing but itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from rmtension.engine.packing import Batch, Sequences

PACKED = "packed"  # its name among transformers' ways to compute attention
# That heads share keys: torch 2.11 sees it by their numbers, later ones want to be told.
SHARING: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}


@dataclass(frozen=True)
class Sight:
    """What a token sees of its own text in the layers of one kind, where that is not all before it: in a window.

    Of positions in the text, which are places in a row of `Batch.texts`, and not of places in the packed batch.
    """

    sees: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # text, head, position that looks, position looked at
    window: int  # a text of no more tokens is seen as if there were none
    masks: dict[int, Tensor] = field(default_factory=dict)  # by length: all layers of a pass have the same

    def mask(self, length: int, device: torch.device) -> Tensor | None:
        """Bool [1, 1, length, length] for texts of that many tokens; None where each token sees all before it."""
        if length <= self.window:
            return None
        if length not in self.masks:
            first, place = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=device), torch.arange(length, device=device)
            self.masks[length] = self.sees(first, first, place[:, None], place[None, None, None])
        return self.masks[length]


def packed_mask(mask_function: Any, local_size: int | None = None, **_: Any) -> Sight | None:
    """What transformers hands to every layer of one kind, by its own function for that kind, in place of a mask."""
    return None if mask_function is causal_mask_function else Sight(mask_function, local_size or 0)


def of_texts(states: Tensor, heads: int, places: Tensor) -> Tensor:
    """States [1, heads or a part of them, T, size] at places [texts, N]: [texts, heads, N, size]."""
    tokens = states[0].transpose(0, 1)  # as they lie in memory: whole rows are copied
    apart = tokens.index_select(0, places.flatten())
    if heads > apart.shape[1]:
        apart = apart.repeat_interleave(heads // apart.shape[1], dim=1)
    in_texts: Tensor = apart.unflatten(0, places.shape)
    return in_texts.transpose(1, 2)


def attention(
    query: Tensor, key: Tensor, value: Tensor, sight: Sight | None, scaling: float, softcap: float | None
) -> Tensor:
    """Outputs [texts, N, heads, size] of causal attention within each of several texts [texts, heads, N, size]."""
    length, shares = query.shape[2], key.shape[1] < query.shape[1]
    mask = sight.mask(length, query.device) if sight else None
    if softcap is None:
        of_heads = functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None, scale=scaling, enable_gqa=shares
        )
    else:  # nothing fused knows a cap: the weight of every pair of tokens is held, as in transformers' own
        logits = torch.tanh(query @ key.mT * (scaling / softcap)) * softcap
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril() if mask is None else mask
        wide = torch.promote_types(logits.dtype, torch.float32)
        of_heads = logits.masked_fill(~seen, -torch.inf).softmax(-1, dtype=wide).to(value.dtype) @ value
    outputs: Tensor = of_heads.transpose(1, 2)
    return outputs


def takes_any_lengths(query: Tensor) -> bool:
    """Whether flash attention computes such queries, in sequences of any lengths at once.

    A function, as a test stands in for it.
    """
    size = query.shape[-1]
    fits = query.is_cuda and query.element_size() == 2 and size % 8 == 0 and size <= 256
    return fits and torch.cuda.get_device_capability(query.device) >= (8, 0)


def attention_of_sequences(query: Tensor, key: Tensor, value: Tensor, scaling: float, of: Sequences) -> Tensor:
    """Outputs [1, T, heads, size] of states [1, heads or a part of them, T, size], in one call for the whole batch."""
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    keys, values = (states.index_select(0, of.keys) for states in (keys, values))
    starts, most = (of.query_starts, of.key_starts), (of.most_queries, of.most_keys)
    # A window without an end to the left, and of nothing to the right: causal. The last query is at the last key.
    outputs = varlen_attn(queries, keys, values, *starts, *most, scale=scaling, window_size=(-1, 0), **SHARING)
    assert isinstance(outputs, Tensor)
    return outputs[None]


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Sight | None,
    scaling: float,
    packed: Batch | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Outputs [1, T, heads, size] of causal attention within each text of a packed batch; without one, of plain texts.

    Here alone texts stand apart, a shared prefix in each of them; all else computes every token of the batch once.
    """
    # Where products are in less precision, rotary embeddings have widened them; attention narrows them all the same.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if packed is not None and softcap is None and takes_any_lengths(query):
        longest = packed.sequences.most_keys
        if attention_mask is None or longest <= attention_mask.window:
            return attention_of_sequences(query, key, value, scaling, packed.sequences), None
    heads, key_heads = query.shape[1], key.shape[1]
    # Heads that share keys and values have a copy each, except in half precision: on a GPU, fused attention for float32
    # or with a mask knows no sharing, and what torch would take instead holds the weight of every pair of tokens.
    if value.element_size() > 2 or attention_mask or softcap is not None:
        key_heads = heads
    if packed is None:
        key, value = (states.repeat_interleave(key_heads // states.shape[1], dim=1) for states in (key, value))
        return attention(query, key, value, attention_mask, scaling, softcap), None
    outputs = []
    for places in packed.texts:
        q = of_texts(query, heads, places)
        k, v = (of_texts(states, key_heads, places) for states in (key, value))
        outputs.append(attention(q, k, v, attention_mask, scaling, softcap).flatten(0, 1))
    return torch.cat(outputs)[None, packed.place], None


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, packed_mask)
