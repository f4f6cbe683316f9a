"""The running reward: what a reward model would give a text if it ended behind each of its tokens, all in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmtension.data.dialogues import Dialogue
from rmtension.engine.ablation import Mask, ablated
from rmtension.engine.activations import RESPONSES
from rmtension.engine.architectures import longest_text
from rmtension.engine.evaluation import refuse_what_is_no_number
from rmtension.engine.packing import PREFIX, Batch, Packed, Tokens, pack
from rmtension.engine.passes import found_values
from rmtension.engine.reading import Reader, load_reader, own_template
from rmtension.engine.reward_model import hidden_states, load_reward_model, rewards
from rmtension.neurons.ranking import NO_SETS

Floats = NDArray[np.float32]
SCHEMA = {
    "comparison_id": pl.String(),
    "response": pl.String(),
    "candidate": pl.Int32(),
    "tokens": pl.List(pl.String()),
    "rewards": pl.List(pl.Float32()),
}


class Along(NamedTuple):
    """A text as a reward model reads it, token by token."""

    text: str
    tokens: Tokens  # [n] all of its ids
    bounds: NDArray[np.int64]  # [n + 1] token i stands for the characters from bounds[i] to bounds[i + 1]
    first: int  # the first token that is of the response

    def said(self, values: Sequence[float]) -> dict[str, Any]:
        """The response in JSON; values [n], the rewards at all tokens."""
        return {"text": self.text, "tokens": self.pieces(), "offsets": self.offsets(), "rewards": values[self.first :]}

    def offsets(self) -> list[tuple[int, int]]:
        """From where to where each token from the response's first one on stands in the text."""
        return list(pairwise(self.bounds[self.first :].tolist()))

    def pieces(self) -> list[str]:
        return [self.text[start:end] for start, end in self.offsets()]


def read_along(reader: Reader, dialogue: Dialogue) -> Along:
    """A dialogue as the model reads it; ValueError where its chat template refuses it."""
    form = reader.form(dialogue)
    encoded = reader.encode([form], return_offsets_mapping=True)
    [ids], [offsets] = encoded["input_ids"], encoded["offset_mapping"]
    bounds = token_bounds(offsets, len(form))
    first = np.searchsorted(bounds[1:], reader.start(dialogue, form), side="right")
    return Along(form, np.asarray(ids, dtype=np.int64), bounds, int(first))


def token_bounds(offsets: Sequence[tuple[int, int]], length: int) -> NDArray[np.int64]:
    """Where in a text of `length` characters tokens [n] begin and end [n + 1], one right behind the other.

    offsets: as a tokenizer gives them. Blanks that it leaves out between two tokens are the second one's, and a
    character of several tokens is its last one's. Tokens that stand for no character (0, 0) have none.
    """
    starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    begun = np.append(np.where(ends > starts, starts, length)[1:], length)
    following = np.minimum.accumulate(begun[::-1])[::-1]
    return np.concatenate([[0], np.maximum.accumulate(np.minimum(ends, following))])


def token_rewards(model: Any, mask: Mask, batch: Batch) -> Tensor:
    """Reward [1, T] at every token of a packed batch."""
    with ablated(model, mask):
        return rewards(model, hidden_states(model, batch))[None]


def running(
    folder: Path, model: Any, mask: Mask, comparisons: Sequence[Packed], budget: int, device: torch.device
) -> Iterator[list[Floats]]:
    """Of each packed comparison the reward at every token [n] of each of its candidates' whole texts.

    UserError naming the reward model's `folder` where one is no number.
    """
    find, sizes = partial(token_rewards, model, mask), list(map(len, comparisons))
    found = found_values("running rewards", find, comparisons, sizes, 1, np.float32, budget, device)
    refuse_what_is_no_number(folder, found)
    for packed, end in zip(comparisons, np.cumsum(sizes), strict=True):
        of_tokens = found[0, end - len(packed) : end]
        prefix = of_tokens[packed.segments == PREFIX]
        yield [np.append(prefix, of_tokens[packed.segments == PREFIX + i]) for i in range(1, 1 + len(packed.ends))]


def running_rewards(
    folder: Path, comparisons: pl.DataFrame, template: str, budget: int, device: torch.device
) -> pl.DataFrame:
    """SCHEMA: of every text the pieces that its response's tokens stand for, with the reward at each.

    comparisons: comparison_id, chosen and rejected (lists of dialogues in the form hh). template: how the reward model
    in `folder` reads them. A text's pieces make up its response and what the template puts behind that. The last reward
    is the text's own; where two candidates begin alike, theirs are equal. What all candidates share is computed once.
    Both lists are null where the model cannot read the comparison. UserError where a reward is no number.
    """
    reader, model = load_reader(folder, template), load_reward_model(folder, device)
    longest, nothing = longest_text(model.config), Mask.of(NO_SETS, model.config)
    rows = comparisons.select("comparison_id", *RESPONSES).rows()
    read = [readable(reader, [*chosen, *rejected], longest) for _, chosen, rejected in rows]
    packed = [pack([one.tokens for one in texts], []) for texts in read if texts]
    found = running(folder, model, nothing, packed, budget, device) if packed else iter([])
    values: list[tuple[Any, ...]] = []
    for (id_, *sides), texts in zip(rows, read, strict=True):
        places = [(id_, side, i) for side, several in zip(RESPONSES, sides, strict=True) for i in range(len(several))]
        if texts:
            along = zip(texts, next(found), strict=True)
            values += [
                (*place, one.pieces(), of_text[one.first :])
                for place, (one, of_text) in zip(places, along, strict=True)
            ]
        else:
            values += [(*place, None, None) for place in places]
    return pl.DataFrame(values, SCHEMA, orient="row")


def judged_rewards(folder: Path, comparisons: pl.DataFrame, budget: int, device: torch.device) -> pl.DataFrame:
    """running_rewards, in the form in which the study reads the reward model in `folder`, with each one's benchmark.

    comparisons: benchmark, comparison_id, chosen and rejected (lists of texts).
    """
    texts = comparisons.select(n=pl.col("chosen").list.len() + pl.col("rejected").list.len())["n"]
    benchmark = comparisons.select(pl.col("benchmark").repeat_by(texts)).explode("benchmark")
    return benchmark.hstack(running_rewards(folder, comparisons, own_template(folder), budget, device))


def readable(reader: Reader, texts: Sequence[str], longest: int) -> list[Along]:
    """The texts of a comparison, token by token; none where one of them cannot be read."""
    try:
        read = [read_along(reader, reader.dialogue(text)) for text in texts]
    except ValueError:
        return []
    return read if all(0 < len(one.tokens) <= longest for one in read) else []
