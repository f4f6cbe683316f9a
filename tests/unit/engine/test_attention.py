"""Attention of a packed batch in one call for sequences of any lengths, against that of whole texts side by side."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from rmtension.engine import attention
from rmtension.engine.attention import Sight, packed_attention
from rmtension.engine.packing import Batch, Packed, collate, pack

SIZE = 8


def one_by_one(
    query: Tensor, key: Tensor, value: Tensor, query_starts: Tensor, key_starts: Tensor, *most: int, **options: Any
) -> Tensor:
    """What flash attention computes: [queries, heads, size], sequence by sequence and query by query."""
    assert query_starts.dtype == key_starts.dtype == torch.int32 and options["window_size"] == (-1, 0)
    assert most == (int(query_starts.diff().max()), int(key_starts.diff().max())) and query_starts.diff().min() > 0
    assert (int(query_starts[-1]), int(key_starts[-1])) == (len(query), len(key))
    share, found = query.shape[1] // key.shape[1], []
    for place in range(len(query)):
        sequence = int(torch.searchsorted(query_starts, place, right=True)) - 1
        seen = slice(int(key_starts[sequence]), int(key_starts[sequence + 1] - query_starts[sequence + 1]) + place + 1)
        keys, values = (states[seen].repeat_interleave(share, dim=1) for states in (key, value))
        weights = (torch.einsum("hd,nhd->nh", query[place], keys) * options["scale"]).softmax(0)
        found.append(torch.einsum("nh,nhd->hd", weights, values))
    return torch.stack(found)


def comparison(rng: np.random.Generator, prefix: int, *own: int) -> Packed:
    """Texts that share no more than the prefix."""
    start = rng.integers(10, 50, prefix)
    ends = [[i, *rng.integers(10, 50, n)][:n] for i, n in enumerate(own)]
    first, *others = (np.array([*start, *end], dtype=np.int64) for end in ends)
    return pack([first], others)


def drawn(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    shapes = [
        (7, 5, 3),
        (0, 4, 9),  # nothing shared
        (6, 0, 8),  # a text that is the prefix itself
        (5, 3, 1, 6, 2),
        (0, 7),  # alone, and so its own prefix
        (1, 1, 1),
        *((int(rng.integers(1, 30)), *rng.integers(0, 20, rng.integers(2, 5)).tolist()) for _ in range(3)),
    ]
    packed = [comparison(rng, *shape) for shape in shapes]
    return collate(packed, rng.permutation(len(packed)).tolist())


def computed(batch: Batch, heads: int, key_heads: int, sight: Sight | None = None) -> list[Tensor]:
    """Outputs, and the gradients of queries, keys and values by a random direction, in float64."""
    generator = torch.Generator().manual_seed(len(batch.tokens))

    def states(n: int) -> Tensor:
        return torch.randn(1, n, len(batch.tokens), SIZE, generator=generator, dtype=torch.float64, requires_grad=True)

    inputs = states(heads), states(key_heads), states(key_heads)
    outputs, _ = packed_attention(None, *inputs, sight, 0.4, batch)
    direction = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    return [outputs, *torch.autograd.grad((outputs * direction).sum(), inputs)]


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_sequences_of_any_lengths_give_what_whole_texts_do(seed: int, heads: int, key_heads: int) -> None:
    batch = drawn(seed)
    expected = computed(batch, heads, key_heads)
    with (
        patch.object(attention, "takes_any_lengths", lambda _: True),
        patch.object(attention, "varlen_attn", side_effect=one_by_one) as call,
    ):
        found = computed(batch, heads, key_heads)
    queries, keys, *_ = call.call_args.args
    assert call.call_count == 1 and len(queries) == len(batch.tokens) and keys.shape[1] == key_heads
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("window", "calls"), [(49, 1), (3, 0)])
def test_a_window_is_left_to_masks_where_a_text_is_longer(window: int, calls: int) -> None:
    batch = drawn(0)
    sight = Sight(lambda _text, _head, i, j: (j <= i) & (i - j < window), window)
    expected = computed(batch, 2, 2, sight)
    with (
        patch.object(attention, "takes_any_lengths", lambda _: True),
        patch.object(attention, "varlen_attn", side_effect=one_by_one) as call,
    ):
        found = computed(batch, 2, 2, sight)
    assert call.call_count == calls
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
