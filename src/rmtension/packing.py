"""One comparison, one sequence: the shared prefix once, then each candidate's own tokens.

A causal model's states on a shared prefix do not depend on what follows it. Position ids restart at the fork and
the mask lets a candidate see the prefix and itself, never its siblings, so scores, losses and gradients are those
of separate sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Tokens = NDArray[np.int64]
Lengths = Sequence[int] | Mapping[int, int]  # of comparisons, by their position
PREFIX = 0
PADDING = -1


@dataclass(frozen=True)
class Packed:
    """One comparison as one sequence of length T."""

    tokens: Tokens  # [T]
    positions: Tokens  # [T] position in the candidate's own text
    segments: Tokens  # [T] PREFIX, or 1 + index of the candidate that owns the token
    ends: Tokens  # [C] where each candidate's last token stands
    n_chosen: int  # the first n_chosen candidates are the chosen ones

    def __len__(self) -> int:
        return len(self.tokens)


def common_prefix_length(texts: Sequence[Tokens]) -> int:
    """Number of leading tokens that all texts share."""
    shortest = min(len(text) for text in texts)
    head = texts[0][:shortest]
    same = np.ones(shortest, dtype=bool)
    for text in texts[1:]:
        same &= text[:shortest] == head
    return shortest if same.all() else int(same.argmin())


def pack(chosen: Sequence[Tokens], rejected: Sequence[Tokens]) -> Packed:
    """Pack the tokenised full texts of one comparison; each must have at least one token."""
    texts = [*chosen, *rejected]
    prefix = common_prefix_length(texts)
    own = np.array([len(text) - prefix for text in texts])
    lengths = np.array([prefix, *own])
    return Packed(
        tokens=np.concatenate([texts[0][:prefix], *(text[prefix:] for text in texts)]),
        positions=np.concatenate([np.arange(prefix), *(np.arange(n) + prefix for n in own)]),
        segments=np.repeat(np.arange(len(lengths)), lengths),
        # A candidate that is itself the shared prefix ends where the prefix ends.
        ends=np.where(own > 0, prefix + own.cumsum(), prefix) - 1,
        n_chosen=len(chosen),
    )


@dataclass(frozen=True)
class Batch:
    """B packed comparisons, padded on the right to the longest; C candidates over all of them."""

    index: list[int]  # [B] position of each comparison in the list that was batched
    tokens: Tensor  # [B, T]
    positions: Tensor  # [B, T]
    segments: Tensor  # [B, T], PADDING behind the end
    row: Tensor  # [C] comparison (row of this batch) of each candidate
    end: Tensor  # [C] column of its last token
    chosen: Tensor  # [C] bool

    def to(self, device: torch.device) -> Batch:
        names = ("tokens", "positions", "segments", "row", "end", "chosen")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @cached_property
    def mask(self) -> Tensor:
        """Float32 [B, 1, T, T], added to attention: 0 where query (row) may see key (column), else minus infinity.

        Built once, shared by all passes; of a boolean mask, torch would make this one anew in every layer.
        """
        length = self.tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.tokens.device).tril()
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        seen = causal & ((key == PREFIX) | (key == query))
        return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)[:, None]

    def token_weights(self) -> tuple[Tensor, Tensor]:
        """How many chosen, and how many rejected, texts hold each token: two float64 [B, T]."""
        rows = len(self.index)
        first = torch.searchsorted(self.row, torch.arange(rows, device=self.row.device))
        segment_of = torch.arange(len(self.row), device=self.row.device) - first[self.row] + 1
        weights = []
        for side in (self.chosen, ~self.chosen):
            texts = torch.zeros(rows, int(segment_of.max()) + 1, dtype=torch.float64, device=self.row.device)
            texts[self.row, segment_of] = side.double()
            texts[:, PREFIX] = texts.sum(1)
            real = self.segments != PADDING
            weights.append(texts.gather(1, self.segments.clamp(min=0)) * real)
        return weights[0], weights[1]


def collate(comparisons: Sequence[Packed], index: Sequence[int]) -> Batch:
    """Pad the comparisons at `index` into one batch."""
    members = [comparisons[i] for i in index]
    length = max(len(packed) for packed in members)

    def padded(name: str, fill: int) -> Tensor:
        rows = np.full((len(members), length), fill, dtype=np.int64)
        for row, packed in zip(rows, members, strict=True):
            row[: len(packed)] = getattr(packed, name)
        return torch.from_numpy(rows)

    sizes = [len(packed.ends) for packed in members]
    return Batch(
        index=list(index),
        tokens=padded("tokens", 0),
        positions=padded("positions", 0),
        segments=padded("segments", PADDING),
        row=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        end=torch.from_numpy(np.concatenate([packed.ends for packed in members])),
        chosen=torch.from_numpy(
            np.concatenate([np.arange(n) < p.n_chosen for n, p in zip(sizes, members, strict=True)])
        ),
    )


def group_by_length(lengths: Lengths, index: Sequence[int], budget: int) -> list[list[int]]:
    """Split `index` into groups of similar length whose padded size stays within `budget` tokens.

    A comparison longer than the budget stands alone. Deterministic: equal lengths keep their given order.
    """
    groups: list[list[int]] = []
    for i in sorted(index, key=lambda i: lengths[i]):
        # Sorted upwards, so the newcomer is the longest of its group.
        if groups and (len(groups[-1]) + 1) * lengths[i] <= budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def batches(comparisons: Sequence[Packed], budget: int) -> Iterator[Batch]:
    """All comparisons once, similar lengths together, at most `budget` padded tokens a batch."""
    lengths = [len(packed) for packed in comparisons]
    for group in group_by_length(lengths, range(len(comparisons)), budget):
        yield collate(comparisons, group)
