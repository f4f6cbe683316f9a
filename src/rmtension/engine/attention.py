"""Attention over packed comparisons: as transformers' own, but each text sees nothing but itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rmtension.engine.packing import Batch

PACKED = "packed"  # its name among transformers' ways to compute attention


def of_texts(states: Tensor, places: Tensor, heads: int) -> Tensor:
    """States [1, heads or a part of them, T, size] at places [texts, N]: [texts, heads or a part, N, size].

    Heads that share keys and values have a copy each, except in half precision: on a GPU, fused attention for float32
    knows no sharing, and what torch would take instead holds the weight of every pair of tokens.
    """
    tokens = states[0].transpose(0, 1)  # as they lie in memory: whole rows are copied
    apart = tokens.index_select(0, places.flatten())
    if apart.element_size() > 2 and heads > apart.shape[1]:
        apart = apart.repeat_interleave(heads // apart.shape[1], dim=1)
    in_texts: Tensor = apart.unflatten(0, places.shape)
    return in_texts.transpose(1, 2)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: Batch | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Outputs [1, T, heads, size] of causal attention within each text of a packed batch; without one, of plain texts.

    Here alone texts stand apart, a shared prefix in each of them; all else computes every token of the batch once.
    """
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    # Where products are in less precision, rotary embeddings have widened them; attention narrows them all the same.
    query, key = query.to(value.dtype), key.to(value.dtype)
    outputs = []
    for places in packed.texts:
        q, k, v = (of_texts(states, places, query.shape[1]) for states in (query, key, value))
        outputs.append(sdpa_attention_forward(module, q, k, v, None, **options)[0].flatten(0, 1))
    return torch.cat(outputs)[None, packed.place], None


AttentionInterface.register(PACKED, packed_attention)
