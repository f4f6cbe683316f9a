"""Rewards of a user's own texts: JSON lines in, JSON lines out, in batches of the packed form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from rmtension.ablation import Mask
from rmtension.architectures import longest_text
from rmtension.errors import UserError
from rmtension.evaluation import candidate_scores, refuse_what_is_no_number
from rmtension.packing import pack
from rmtension.readers import TEMPLATES, Prompt, Text, Turn, rendered
from rmtension.reward_model import load_config, load_reward_model, load_tokenizer, tokenise

AS_IT_IS = "none"
FORMS = (*TEMPLATES, AS_IT_IS)
REQUESTS = 256  # scored together, so that similar lengths meet in a batch
TOKENS = 4096  # of a batch


# --- requests -------------------------------------------------------------------------------------------------


class Responses(BaseModel):
    """Responses to one prompt."""

    prompt: Prompt
    responses: list[Text] = Field(min_length=1)


class Pair(BaseModel):
    """Two responses to one prompt; without a prompt, two whole dialogues."""

    prompt: Prompt | None = None
    chosen: Text
    rejected: Text


class Request(NamedTuple):
    texts: list[str]  # as the reward model reads them
    is_pair: bool

    def answer(self, scores: Sequence[float | None]) -> str:
        """A line of JSON."""
        pair = {"chosen_score": scores[0], "rejected_score": scores[-1]}
        return json.dumps(pair if self.is_pair else {"scores": scores})


def read_request(line: bytes, place: str, template: str) -> Request:
    """One line of input; UserError naming `place` and the field where it is wrong."""
    try:
        content = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: no JSON: {error}") from None
    kind = Responses if isinstance(content, dict) and "responses" in content else Pair
    try:
        request = kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"field '{name}': " for name in [".".join(map(str, first["loc"]))] if name)
        raise UserError(f"{place}: {field}{first['msg']}") from None
    if isinstance(request, Responses):
        return Request(fill(template, request.prompt, request.responses, place), is_pair=False)
    sides = [request.chosen, request.rejected]
    return Request(fill(template, request.prompt, sides, place) if request.prompt else sides, is_pair=True)


def fill(template: str, prompt: Sequence[Turn], responses: Sequence[str], place: str) -> list[str]:
    """Each response behind the prompt, in a template of FORMS."""
    if prompt[-1].role != "user":
        raise UserError(f"{place}: field 'prompt': the last turn is not the user's")
    if template != AS_IT_IS:
        head = rendered(prompt, template)
    elif len(prompt) == 1:
        head = prompt[0].content
    else:
        raise UserError(f"{place}: field 'prompt': turns cannot be joined without a template")
    return [head + response for response in responses]


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
    """A reward model, whole or ablated, that counts the texts which it cannot score."""

    def __init__(self, folder: Path, ablation: pl.DataFrame, device: torch.device) -> None:
        """ablation: unit, layer, neuron; without rows nothing is ablated."""
        check_reward_model(folder)
        self.tokenizer, self.model = load_tokenizer(folder), load_reward_model(folder, device)
        self.folder, self.device, self.longest = folder, device, longest_text(self.model.config)
        self.texts = self.unscored = 0
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

    def answers(self, lines: Iterable[bytes], source: str, template: str) -> Iterator[str]:
        """A line of output for every line of input that is not blank, in order; `source` names the input in errors."""
        requests = (
            read_request(line, f"{source}: line {number}", template)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )
        while several := list(islice(requests, REQUESTS)):
            rewards = self.rewards([request.texts for request in several])
            yield from (request.answer(scores) for request, scores in zip(several, rewards, strict=True))


def shortest(scores: NDArray[np.float32]) -> list[float]:
    """The same numbers in as few digits as tell a float32 from its neighbours."""
    return [float(str(score)) for score in scores]
