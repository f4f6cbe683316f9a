"""Rewards of a user's own texts: rows in, JSON lines out, in batches of the packed form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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
from rmtension.engine.heads import Choice
from rmtension.engine.kinds import refuse_other_kinds
from rmtension.engine.packing import Packed, Tokens, pack
from rmtension.engine.reading import load_reader
from rmtension.engine.reward_model import CHAT_TEMPLATE, load_reward_model, tokenise
from rmtension.engine.running_reward import read_along, running
from rmtension.study.inputs import GIVEN

REQUESTS = 256  # scored together, so that similar lengths meet in a batch
TOKENS = 4096  # of a batch
NO_TOKENS: Tokens = np.empty(0, dtype=np.int64)


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
    place: str
    dialogues: list[Dialogue]
    is_pair: bool

    def answer(self, scores: Sequence[float | None], running: Sequence[Any] = ()) -> str:
        """A line of JSON."""
        of_texts = {"score": scores} | ({"running": running} if running else {})
        if self.is_pair:
            sides = ("chosen", 0), ("rejected", -1)
            return json.dumps({f"{side}_{name}": of[i] for name, of in of_texts.items() for side, i in sides})
        return json.dumps({"scores": scores} | ({"running": running} if running else {}))


def read_request(row: Any, place: str, template: str) -> Request:
    """One row of input; UserError naming `place` and the field where it is wrong."""
    if not isinstance(row, dict):
        raise UserError(f"{place}: no mapping of fields to values")
    try:
        if "responses" in row:
            return Request(place, Responses.model_validate(row, context=template).responses, is_pair=False)
        pair = Pair.model_validate(row, context=template)
    except ValidationError as error:
        raise UserError(f"{place}: {fault_of(error)}") from None
    for side in ("chosen", "rejected"):
        if len(getattr(pair, side)) > 1:
            raise UserError(f"{place}: field '{side}': several texts in a pair; give them as 'responses'")
    return Request(place, [*pair.chosen, *pair.rejected], is_pair=True)


# --- scores ---------------------------------------------------------------------------------------------------


Read = TypeVar("Read")


class Scorer:
    """A reward model, whole or ablated, that counts its texts: those that it cannot score, those with odd turns."""

    def __init__(
        self,
        folder: Path,
        template: str | None,
        ablation: pl.DataFrame,
        device: torch.device,
        head: Choice | None = None,
    ) -> None:
        """template: as load_reader has it. ablation: unit, layer, neuron; without rows nothing is ablated.
        head: what is said of it, as load_reward_model has it."""
        refuse_other_kinds(folder)
        self.reader, self.model = load_reader(folder, template), load_reward_model(folder, device, head)
        own = self.reader.tokenizer.chat_template
        self.is_form_assumed = template is None and not (folder / GIVEN).exists() and own not in (None, CHAT_TEMPLATE)
        self.folder, self.device, self.longest = folder, device, longest_text(self.model.config)
        self.texts = self.unscored = 0
        self.oddities: Counter[str] = Counter()
        self.refused: list[str] = []  # places of texts that have no form in which the model reads them, and why
        try:
            self.mask = Mask.of(ablation, self.model.config)
        except IndexError:
            raise UserError(f"{folder}: the set to be ablated is not of this model: it has other layers") from None

    def answers(self, rows: Iterable[tuple[str, Any]], is_running: bool = False) -> Iterator[str]:
        """A line of output for every row of input, each with its place in errors, in order.

        It has the reward of every text, null where that has no token, or more than the model can take; and where
        `is_running`, the reward at every token of its response.
        """
        requests = (read_request(row, place, self.reader.template) for place, row in rows)
        while several := list(islice(requests, REQUESTS)):
            for request in several:
                self.texts += len(request.dialogues)
                self.oddities.update(dialogue.oddity for dialogue in request.dialogues if dialogue.oddity)
            yield from self.along(several) if is_running else self.scored(several)

    def scored(self, requests: Sequence[Request]) -> Iterator[str]:
        """Answers with rewards alone."""
        forms = self.read(requests, self.reader.form)
        read = tokenise(self.reader.encode, [form for several in forms for form in several if form is not None])
        tokens = iter(read)
        places, packed = self.pack([[NO_TOKENS if form is None else next(tokens) for form in of] for of in forms])
        found = candidate_scores(self.model, packed, [self.mask], TOKENS, self.device)[0]
        refuse_what_is_no_number(self.folder, found)
        scores = dict(zip(places, shortest(found), strict=True))
        for row, request in enumerate(requests):
            yield request.answer([scores.get((row, i)) for i in range(len(request.dialogues))])

    def along(self, requests: Sequence[Request]) -> Iterator[str]:
        """Answers with running rewards, the last of which is the text's own."""
        read = self.read(requests, partial(read_along, self.reader))
        places, packed = self.pack([[NO_TOKENS if one is None else one.tokens for one in of] for of in read])
        found = running(self.folder, self.model, self.mask, packed, TOKENS, self.device)
        rewards = dict(zip(places, map(shortest, chain.from_iterable(found)), strict=True))
        for row, (request, of_request) in enumerate(zip(requests, read, strict=True)):
            of_texts = [(one, rewards.get((row, i))) for i, one in enumerate(of_request)]
            scores = [values[-1] if values else None for _, values in of_texts]
            yield request.answer(scores, [one.said(values) if one and values else None for one, values in of_texts])

    def read(self, requests: Sequence[Request], read: Callable[[Dialogue], Read]) -> list[list[Read | None]]:
        """What `read` makes of every text of every request; None where it raises ValueError, which is kept."""

        def one(request: Request, dialogue: Dialogue) -> Read | None:
            try:
                return read(dialogue)
            except ValueError as error:
                self.refused.append(f"{request.place}: {error}")
                return None

        return [[one(request, dialogue) for dialogue in request.dialogues] for request in requests]

    def pack(self, tokens: Sequence[Sequence[Tokens]]) -> tuple[list[tuple[int, int]], list[Packed]]:
        """The texts of every request that the model can take, packed together, and the request and number of each."""
        places: list[tuple[int, int]] = []
        packed = []
        for row, texts in enumerate(tokens):
            fitting = [i for i, text in enumerate(texts) if 0 < len(text) <= self.longest]
            self.unscored += len(texts) - len(fitting)
            # Many responses take several sequences, so that none outgrows a batch.
            together = max(1, TOKENS // max((len(texts[i]) for i in fitting), default=1))
            for start in range(0, len(fitting), together):
                members = fitting[start : start + together]
                packed.append(pack([texts[i] for i in members], []))
                places += [(row, i) for i in members]
        return places, packed


def shortest(scores: NDArray[np.float32]) -> list[float]:
    """The same numbers in as few digits as tell a float32 from its neighbours."""
    return [float(str(score)) for score in scores]
