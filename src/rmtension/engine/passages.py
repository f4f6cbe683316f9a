"""What single neurons of a reward model read and do: the passages in which each is most active, and all scores without
it. One pass over pairs, in memory that does not grow with them.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.engine.ablation import Mask, by_layer
from rmtension.engine.activations import RESPONSES, observed_neurons
from rmtension.engine.architectures import longest_text
from rmtension.engine.evaluation import (
    SCHEMA,
    ablated_scores,
    refuse_what_is_no_number,
    score_lists,
    with_comparisons,
)
from rmtension.engine.packing import Batch
from rmtension.engine.passes import candidate_values
from rmtension.engine.reading import load_reader, pack_table
from rmtension.engine.reward_model import load_reward_model, score
from rmtension.neurons.ranking import NEURON

BEFORE, AFTER = 32, 12  # tokens of a passage around the one at which the neuron is most active
PASSAGES = {
    **dict.fromkeys(NEURON, pl.Int32()),
    "response": pl.String(),
    "place": pl.Int32(),
    **dict.fromkeys(["comparison_id", "task", "orientation"], pl.String()),
    "activation": pl.Float32(),
    "peak": pl.Int32(),
    "start": pl.Int32(),
    "n_tokens": pl.Int32(),
    "tokens": pl.List(pl.String()),
    "activations": pl.List(pl.Float32()),
}
WITHOUT = {
    **dict.fromkeys(NEURON, pl.Int32()),
    **{name: kind for name, kind in SCHEMA.items() if name not in ("ablation", "precision", "fingerprint")},
}


class Passage(NamedTuple):
    """Tokens of one text around the one of its own at which a neuron is most active; the first are the strongest."""

    weakness: float  # minus the absolute activation there
    comparison: int  # position among those that are passed over
    start: int  # position of the first token in the text
    n_tokens: int  # of the whole text
    peak: int  # position of that token in the passage
    tokens: tuple[int, ...]
    activations: tuple[float, ...]


class Strongest:
    """Of each neuron, the `most` chosen and the `most` rejected texts in which it is most active."""

    def __init__(self, neurons: int, most: int) -> None:
        self.most = most
        self.kept: list[dict[str, list[Passage]]] = [{side: [] for side in RESPONSES} for _ in range(neurons)]

    def take(self, batch: Batch, activations: Tensor) -> None:
        """activations: [T, neurons] of the batch; a text counts by its own tokens, behind what all candidates share."""
        count, width = len(batch.end), activations.shape[1]
        segments, values = batch.segments.cpu(), activations.float().cpu()
        own = segments < count
        largest = values.new_full((count, width), -1.0)
        places = segments[own, None].expand(-1, width)
        strength = largest.scatter_reduce(0, places, values[own].abs(), "amax").numpy()
        for candidate, neuron in zip(*np.nonzero(strength >= 0), strict=True):
            kept = self.kept[neuron][RESPONSES[int(not batch.chosen[candidate])]]
            comparison = int(batch.comparison[candidate])
            key = -float(strength[candidate, neuron]), batch.index[comparison]
            if any(one.comparison == key[1] for one in kept):
                continue  # taken before memory ran out, when all texts are passed over again
            if len(kept) < self.most or key < kept[-1][:2]:
                shared = (segments == count + comparison).nonzero()[:, 0]
                text = torch.cat([shared, (segments == candidate).nonzero()[:, 0]])
                insort(kept, passage(key, batch.tokens.cpu()[text], values[text, neuron], len(shared)))
                del kept[self.most :]

    def frame(self, tokenizer: Any, neurons: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
        """PASSAGES; pairs: the comparisons that were passed over."""
        rows = [
            {"layer": layer, "neuron": neuron, "response": side, "place": place, "row": one.comparison}
            | {"activation": one.activations[one.peak], "peak": one.peak, "start": one.start, "n_tokens": one.n_tokens}
            | {"tokens": token_texts(tokenizer, one.tokens), "activations": one.activations}
            for (layer, neuron), of_neuron in zip(neurons.select(NEURON).rows(), self.kept, strict=True)
            for side, passages in of_neuron.items()
            for place, one in enumerate(passages, start=1)
        ]
        taken = {name: kind for name, kind in PASSAGES.items() if name not in pairs.columns}
        found = pl.DataFrame(rows, schema={"row": pl.UInt32(), **taken})
        return found.join(pairs.with_row_index("row"), on="row", how="left", maintain_order="left").select(*PASSAGES)


def passage(key: tuple[float, int], tokens: Tensor, activations: Tensor, shared: int) -> Passage:
    """Of a text, the tokens around the one behind its first `shared` at which a neuron is most active."""
    middle = shared + int(activations[shared:].abs().argmax())
    start, end = max(0, middle - BEFORE), middle + AFTER + 1
    shown = tuple(tokens[start:end].tolist()), tuple(activations[start:end].tolist())
    return Passage(*key, start, len(tokens), middle - start, *shown)


def token_texts(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """What each token adds to the text; of a character that several make up, all of it stands with the last."""
    texts, before = [], ""
    for end in range(1, len(tokens) + 1):
        text = tokenizer.decode(list(tokens[:end]), clean_up_tokenization_spaces=False)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and end < len(tokens):
            text = before
        texts.append(text[len(before) :])
        before = text
    return texts


class Explored(NamedTuple):
    passages: pl.DataFrame  # PASSAGES
    scores: pl.DataFrame  # WITHOUT: of all neurons (layer and neuron null), then without each


def explore_neurons(
    folder: Path,
    pairs: pl.DataFrame,
    neurons: pl.DataFrame,
    most: int,
    budget: int,
    device: torch.device,
    place: str = "pairs",
) -> Explored:
    """Of each of `neurons` (layer, neuron) the `most` passages of either side in which it is most active, and the
    scores of all pairs with it alone at zero.

    pairs: comparison_id, task, orientation, chosen and rejected (lists of one text). place: their file, for messages.
    UserError where a reward is no number, or all pairs are too long for the reward model in `folder`.
    """
    reader, model = load_reader(folder), load_reward_model(folder, device)
    kept, packed = pack_table(reader, pairs, longest_text(model.config))
    if not packed:
        fault = f"{folder}, which reads {longest_text(model.config)} tokens, can read none of these {len(pairs)} pairs"
        raise UserError(f"{place}: {fault}: take the model out of the study")
    units = neurons.select(pl.lit("neuron").alias("unit"), *NEURON).unique().sort(NEURON)
    masks = [Mask.of(units[i], model.config) for i in range(len(units))]
    strongest = Strongest(len(units), most)
    members = by_layer(Mask.of(units, model.config).neurons, device)
    find = partial(pass_over, model, members, masks, strongest)
    rewards = candidate_values("single neurons", find, packed, 1 + len(masks), np.float32, budget, device)
    refuse_what_is_no_number(folder, rewards)
    names = ["", *(f"{layer} {neuron}" for layer, neuron in units.select(NEURON).rows())]
    scored = score_lists(rewards, packed, kept, names)
    places = pl.DataFrame({"fingerprint": names, "layer": [None, *units["layer"]], "neuron": [None, *units["neuron"]]})
    scores = places.join(with_comparisons(scored, pairs, names), on="fingerprint", maintain_order="left_right")
    passages = strongest.frame(reader.tokenizer, units, pairs[kept])
    return Explored(passages, scores.select(pl.col(name).cast(kind) for name, kind in WITHOUT.items()))


def pass_over(
    model: Any, members: Sequence[Tensor], masks: Sequence[Mask], strongest: Strongest, batch: Batch
) -> Tensor:
    """Rewards [1 + masks, C]: of the reward model as it is, and under each mask.

    members: by layer the indices of the neurons whose activations `strongest` takes.
    """
    found: list[Tensor] = []
    with observed_neurons(model, lambda layer, activations: found.append(activations[0][:, members[layer]])):
        whole = score(model, batch)
    strongest.take(batch, torch.cat(found, dim=1))
    return torch.cat([whole[None], ablated_scores(model, masks, batch)])
