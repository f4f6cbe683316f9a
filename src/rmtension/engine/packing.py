"""One comparison, one sequence: the shared prefix once, then each candidate's own tokens.

A causal model's states on a shared prefix do not depend on what follows it. Position ids restart at the fork and
attention (attention.py) shows a candidate the prefix and itself, never its siblings, so scores, losses and gradients
are those of separate sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Tokens = NDArray[np.int64]
Lengths = Sequence[int] | Mapping[int, int]  # of comparisons, by their position
PREFIX = 0


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

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """[C] which candidates are chosen."""
        return np.arange(len(self.ends)) < self.n_chosen


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
class Sequences:
    """Whole texts as keys, each with the last of its tokens as queries: all of a comparison's first text, of others
    their own. So every token of the batch asks once, in the order in which it stands there."""

    keys: Tensor  # [K] places in the batch, one text behind the other
    query_starts: Tensor  # int32 [sequences + 1] in the batch; a text that has no token of its own is left out
    key_starts: Tensor  # int32 [sequences + 1] in `keys`
    most_queries: int
    most_keys: int

    def to(self, device: torch.device) -> Sequences:
        names = ("keys", "query_starts", "key_starts")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class Batch:
    """B packed comparisons of T tokens, one behind the other without padding; C candidates over all of them."""

    index: list[int]  # [B] position of each comparison in the list that was batched
    tokens: Tensor  # [T]
    positions: Tensor  # [T]
    segments: Tensor  # [T] candidate that owns the token; of a shared prefix C + its comparison
    comparison: Tensor  # [C] that the candidate is of, counted in this batch
    end: Tensor  # [C] place of its last token
    chosen: Tensor  # [C] bool
    texts: list[Tensor]  # [texts, longest] places of the tokens of whole texts, similar lengths together, then zeros
    place: Tensor  # [T] where all `texts`, flattened one behind the other, hold each token
    sequences: Sequences  # for attention that takes any lengths at once

    def to(self, device: torch.device) -> Batch:
        names = ("tokens", "positions", "segments", "comparison", "end", "chosen", "place")
        moved = {name: getattr(self, name).to(device) for name in names}
        texts, sequences = [texts.to(device) for texts in self.texts], self.sequences.to(device)
        return replace(self, texts=texts, sequences=sequences, **moved)

    def token_weights(self) -> Tensor:
        """How many chosen, and how many rejected, texts hold each token: float64 [T, 2]."""
        of_candidates = torch.stack([self.chosen, ~self.chosen], dim=1).double()
        of_prefixes = of_candidates.new_zeros(len(self.index), 2).index_add_(0, self.comparison, of_candidates)
        return torch.cat([of_candidates, of_prefixes])[self.segments]


def whole_texts(start: Tokens, prefix: Tokens, own_start: Tokens, own: Tokens) -> tuple[list[Tokens], Tokens]:
    """`texts` and `place` of a batch: of each candidate, where its prefix and its own tokens start, and how many."""
    length = prefix + own
    similar = np.floor(2 * np.log2(length))  # within a factor of 1.4: attention pads each kind to its longest
    texts, real = [], []
    for kind in np.unique(similar):
        of = (similar == kind).nonzero()[0][:, None]
        column = np.arange(length[of].max())
        places = np.where(column < prefix[of], start[of] + column, own_start[of] + column - prefix[of])
        real.append(column < length[of])
        texts.append(np.where(real[-1], places, 0))
    held = np.concatenate([one.ravel() for one in real]).nonzero()[0]
    _, first = np.unique(np.concatenate([one.ravel() for one in texts])[held], return_index=True)
    return texts, held[first]  # a shared token stands in several texts, with equal outputs


def sequences_of(comparison: Tokens, start: Tokens, prefix: Tokens, own_start: Tokens, own: Tokens) -> Sequences:
    """Of each candidate its comparison, where its prefix and its own tokens start, and how many these are."""
    asked = own + np.where(np.diff(comparison, prepend=-1) > 0, prefix, 0)
    asking = asked > 0
    start, prefix, own_start, own, asked = (n[asking] for n in (start, prefix, own_start, own, asked))
    length = prefix + own
    query_starts, key_starts = (np.concatenate([[0], n.cumsum()]) for n in (asked, length))
    column = np.arange(key_starts[-1]) - key_starts[:-1].repeat(length)
    keys = column + np.where(column < prefix.repeat(length), start.repeat(length), (own_start - prefix).repeat(length))
    return Sequences(
        keys=torch.from_numpy(keys),
        query_starts=torch.from_numpy(query_starts.astype(np.int32)),
        key_starts=torch.from_numpy(key_starts.astype(np.int32)),
        most_queries=int(asked.max()),
        most_keys=int(length.max()),
    )


def collate(comparisons: Sequence[Packed], index: Sequence[int]) -> Batch:
    """The comparisons at `index` as one batch."""
    members = [comparisons[i] for i in index]
    lengths, sizes = np.array([len(p) for p in members]), np.array([len(p.ends) for p in members])
    comparison, member = np.repeat(np.arange(len(members)), sizes), np.repeat(np.arange(len(members)), lengths)
    first, start = np.cumsum(sizes) - sizes, np.cumsum(lengths) - lengths
    segments = np.concatenate([p.segments for p in members])
    segments = np.where(segments == PREFIX, len(comparison) + member, first[member] + segments - 1)
    own, prefix = np.split(np.bincount(segments, minlength=len(comparison) + len(members)), [len(comparison)])
    end = start[comparison] + np.concatenate([p.ends for p in members])
    candidates = start[comparison], prefix[comparison], end + 1 - own, own
    texts, place = whole_texts(*candidates)
    return Batch(
        index=list(index),
        tokens=torch.from_numpy(np.concatenate([p.tokens for p in members])),
        positions=torch.from_numpy(np.concatenate([p.positions for p in members])),
        segments=torch.from_numpy(segments),
        comparison=torch.from_numpy(comparison),
        end=torch.from_numpy(end),
        chosen=torch.from_numpy(np.concatenate([p.chosen for p in members])),
        texts=[torch.from_numpy(one) for one in texts],
        place=torch.from_numpy(place),
        sequences=sequences_of(comparison, *candidates),
    )


def group_by_length(lengths: Lengths, index: Sequence[int], budget: int) -> list[list[int]]:
    """Split `index` into groups of similar length and at most `budget` tokens.

    A comparison longer than the budget stands alone. Deterministic: equal lengths keep their given order.
    """
    groups: list[list[int]] = []
    held = 0
    for i in sorted(index, key=lambda i: lengths[i]):  # similar ones: attention pads
        if groups and held + lengths[i] <= budget:
            groups[-1].append(i)
            held += lengths[i]
        else:
            groups.append([i])
            held = lengths[i]
    return groups


def batches(comparisons: Sequence[Packed], budget: int) -> Iterator[Batch]:
    """All comparisons once, similar lengths together, at most `budget` tokens a batch."""
    lengths = [len(packed) for packed in comparisons]
    for group in group_by_length(lengths, range(len(comparisons)), budget):
        yield collate(comparisons, group)
