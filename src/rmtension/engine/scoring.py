"""Rewards of a user's own texts: rows in, JSON lines out, in batches of the packed form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from rmtension.base.errors import UserError
from rmtension.data.dialogues import Dialogue, Prompted, Turn, fault_of
from rmtension.engine.ablation import Mask
from rmtension.engine.architectures import longest_text
from rmtension.engine.evaluation import candidate_scores, refuse_what_is_no_number
from rmtension.engine.packing import pack
from rmtension.engine.reward_model import load_config, load_reward_model, load_tokenizer, tokenise

REQUESTS = 256  # scored together, so that similar lengths meet in a batch
TOKENS = 4096  # of a batch


# --- requests -------------------------------------------------------------------------------------------------


class Responses(Prompted):
    """Responses to one prompt."""

    prompt: list[Turn]
    responses: list[Dialogue]


class Pair(Prompted):
    """Two responses to one prompt; without a prompt, two whole dialogues."""

    chosen: list[Dialogue]
    rejected: list[Dialogue]


class Request(NamedTuple):
    dialogues: list[Dialogue]
    is_pair: bool

    def answer(self, scores: Sequence[float | None]) -> str:
        """A line of JSON."""
        pair = {"chosen_score": scores[0], "rejected_score": scores[-1]}
        return json.dumps(pair if self.is_pair else {"scores": scores})


def read_request(row: Any, place: str, template: str) -> Request:
    """One row of input; UserError naming `place` and the field where it is wrong."""
    if not isinstance(row, dict):
        raise UserError(f"{place}: no mapping of fields to values")
    try:
        if "responses" in row:
            return Request(Responses.model_validate(row, context=template).responses, is_pair=False)
        pair = Pair.model_validate(row, context=template)
    except ValidationError as error:
        raise UserError(f"{place}: {fault_of(error)}") from None
    for side in ("chosen", "rejected"):
        if len(getattr(pair, side)) > 1:
            raise UserError(f"{place}: field '{side}': several texts in a pair; give them as 'responses'")
    return Request([*pair.chosen, *pair.rejected], is_pair=True)


# --- scores ---------------------------------------------------------------------------------------------------


def check_reward_model(folder: Path) -> None:
    """UserError where `folder` holds no reward model; transformers would give a bare backbone a random head."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no reward model here: there is no config.json")
    config = load_config(folder)
    classifies = any(name.endswith("ForSequenceClassification") for name in config.architectures or [])
    if not classifies or config.num_labels != 1:
        raise UserError(f"{folder}: no reward model: config.json names no sequence classifier with one label")


class Scorer:
    """A reward model, whole or ablated, that counts its texts: those that it cannot score, those with odd turns."""

    def __init__(self, folder: Path, ablation: pl.DataFrame, device: torch.device) -> None:
        """ablation: unit, layer, neuron; without rows nothing is ablated."""
        check_reward_model(folder)
        self.tokenizer, self.model = load_tokenizer(folder), load_reward_model(folder, device)
        self.folder, self.device, self.longest = folder, device, longest_text(self.model.config)
        self.texts = self.unscored = 0
        self.oddities: Counter[str] = Counter()
        try:
            self.mask = Mask.of(ablation, self.model.config)
        except IndexError:
            raise UserError(f"{folder}: the set to be ablated is not of this model: it has other layers") from None

    def rewards(self, requests: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """Reward of every text of every request; None where it has no token, or more than the model can take."""
        tokens = iter(tokenise(self.tokenizer, [text for texts in requests for text in texts]))
        rewards: list[list[float | None]] = [[None] * len(texts) for texts in requests]
        places, packed = [], []
        for of_request in rewards:
            candidates = [next(tokens) for _ in of_request]
            fitting = [i for i, candidate in enumerate(candidates) if 0 < len(candidate) <= self.longest]
            # Many responses take several sequences, so that none outgrows a batch.
            together = max(1, TOKENS // max((len(candidates[i]) for i in fitting), default=1))
            for start in range(0, len(fitting), together):
                members = fitting[start : start + together]
                packed.append(pack([candidates[i] for i in members], []))
                places += [(of_request, i) for i in members]
        scores = candidate_scores(self.model, packed, [self.mask], TOKENS, self.device)[0]
        refuse_what_is_no_number(self.folder, scores)
        for (of_request, i), score in zip(places, shortest(scores), strict=True):
            of_request[i] = score
        self.texts += sum(map(len, rewards))
        self.unscored += sum(map(len, rewards)) - len(places)
        return rewards

    def answers(self, rows: Iterable[tuple[str, Any]], template: str) -> Iterator[str]:
        """A line of output for every row of input, each with its place in errors, in order."""
        requests = (read_request(row, place, template) for place, row in rows)
        while several := list(islice(requests, REQUESTS)):
            self.oddities.update(
                dialogue.oddity for request in several for dialogue in request.dialogues if dialogue.oddity
            )
            rewards = self.rewards([[dialogue.text for dialogue in request.dialogues] for request in several])
            yield from (request.answer(scores) for request, scores in zip(several, rewards, strict=True))


def shortest(scores: NDArray[np.float32]) -> list[float]:
    """The same numbers in as few digits as tell a float32 from its neighbours."""
    return [float(str(score)) for score in scores]
