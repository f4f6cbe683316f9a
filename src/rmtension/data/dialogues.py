"""Dialogues: whatever a row may hold for a prompt and its responses, as one text in a template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, PlainValidator, ValidationError, ValidationInfo, field_validator

NAMES = {"user": "Human", "assistant": "Assistant"}
# What stands before the first turn, and before the words of each.
TEMPLATES = {
    "hh": ("\n\n", " "),  # the form of the training texts
    "paper": ("", ""),  # the authors' evaluation (docs/methods.md, section 6)
}
OTHER_ROLE = "leave it out, or put it into the first user turn"
AS_IT_IS = "none"  # no template: one text behind the other
CHAT = "chat"  # the reward model's own chat template, in place of the form hh
FORMS = (*TEMPLATES, AS_IT_IS, CHAT)
BREAK = r"(?:\n\n|\r\n\r\n)"  # before the mark of a turn; Windows' ends of lines do not hide one
REPLY = rf"{BREAK}Assistant:"
MARK = rf"(?:^\s*|{BREAK})(?:Human|Assistant):"  # of a turn, whatever the template
TURN = re.compile(rf"(?:^\s*|{BREAK})(Human|Assistant): ?")  # what stands before the words of a turn in the form hh
MARKED = re.compile(rf"\s*Human:.*{BREAK}Assistant:\s*", re.DOTALL)  # a prompt that is in a template already


class Turn(NamedTuple):
    role: str  # of NAMES
    content: str

    @classmethod
    def read(cls, turn: Any) -> Self:
        """A mapping of role and content, perhaps with more."""
        if not isinstance(turn, Mapping):
            raise ValueError(f"{type(turn).__name__} instead of a mapping with 'role' and 'content'")
        for key in cls._fields:
            if key not in turn:
                raise ValueError(f"key '{key}' is missing; found {', '.join(turn)}")
        if turn["role"] not in list(NAMES):  # it may be anything
            raise ValueError(f"key 'role': {turn['role']!r} is neither 'user' nor 'assistant': {OTHER_ROLE}")
        try:
            return cls(turn["role"], words(turn["content"]))
        except ValueError as error:
            raise ValueError(f"key 'content': {error}") from None


def words(text: Any) -> str:
    """The text itself; ValueError where it is none."""
    if text is None:
        raise ValueError("empty")
    if not isinstance(text, str):
        raise ValueError(f"{type(text).__name__} instead of text")
    text.encode()  # JSON can hold halves of characters, which no file or tokenizer takes
    return text


def read_turns(turns: Any) -> list[Turn]:
    """The turns of a list, user and assistant in turn, or the one there is; a text is one turn of the user."""
    if isinstance(turns, Mapping):
        turns = [turns]
    if not isinstance(turns, list):
        return [Turn("user", words(turns))]
    if not turns:
        raise ValueError("an empty list")
    read: list[Turn] = []
    for number, turn in enumerate(turns):
        try:
            read.append(Turn.read(turn))
        except ValueError as error:
            raise ValueError(f"turn {number}: {error}") from None
    for number, (before, turn) in enumerate(pairwise(read), start=1):
        if before.role == turn.role:
            raise ValueError(f"turn {number}: the {turn.role}'s, as the one before; they speak in turn")
    return read


def read_prompt(prompt: Any, template: str) -> list[Turn]:
    """The turns up to a response."""
    turns = read_turns(prompt)
    if turns[-1].role != "user":
        raise ValueError("the last turn is not the user's")
    if template == AS_IT_IS and len(turns) > 1:
        raise ValueError("turns cannot be joined without a template")
    if template != AS_IT_IS and any(MARKED.fullmatch(turn.content) for turn in turns):
        raise ValueError("it has the marks Human: and Assistant: already; give the words alone, or whole dialogues")
    return turns


class Dialogue(NamedTuple):
    text: str  # prompt and response; under CHAT in the form hh
    start: int  # where the response begins in it
    turns: Sequence[Turn] = ()  # under CHAT, which renders them
    oddity: str = ""  # what is odd about it

    @classmethod
    def whole(cls, text: str, template: str) -> Self:
        """Of a text that is taken as it is; ValueError under CHAT, where it is not in the form hh."""
        replies = [mark.end() for mark in re.finditer(f"{REPLY} ?", text)]
        start = replies[-1] if replies else 0
        if template == CHAT:
            return cls(text, start, turns_of(text))
        is_bare = template != AS_IT_IS and not replies
        return cls(text, start, oddity=BARE if is_bare else "")


MARKED_INSIDE = "hold the mark of a turn inside a turn"
BARE = "have no assistant's turn: is their prompt in another field?"


def read_dialogue(prompt: Sequence[Turn], response: Any, template: str) -> Dialogue:
    """A response behind its prompt: a text, in RMB under the key `answer`, or turns that may begin with the prompt's.

    Without a prompt the response is a whole dialogue: a text, which is taken as it is, or turns.
    """
    if isinstance(response, Mapping):
        response = response.get("answer", response)
    if isinstance(response, list | Mapping):
        turns = read_turns(response)
        if turns[: len(prompt)] != list(prompt):
            if turns[0].role == "user":
                raise ValueError("it begins with other turns than the prompt")
            turns = [*prompt, *turns]
    elif prompt:
        turns = [*prompt, Turn("assistant", words(response))]
    else:
        return Dialogue.whole(words(response), template)
    if turns[-1].role != "assistant":
        raise ValueError("the last turn is not the assistant's")
    if len(turns) == 1:
        raise ValueError("a response without the user's turn before it; is that in another field?")
    text = rendered(turns, "hh" if template == CHAT else template)
    # Under CHAT the turns themselves are rendered, and nothing is to be told from the text.
    is_marked = template not in (AS_IT_IS, CHAT) and any(re.search(MARK, turn.content) for turn in turns)
    return Dialogue(text, len(text) - len(turns[-1].content), turns, MARKED_INSIDE if is_marked else "")


def turns_of(text: str) -> list[Turn]:
    """The turns of a dialogue in the form hh: those that `rendered` made it of, where none held the mark of another.

    ValueError where the text does not begin with a turn.
    """
    marks = list(TURN.finditer(text))
    if not marks or marks[0].start() > 0:
        raise ValueError("no dialogue: it does not begin with 'Human:' or 'Assistant:'")
    roles = {name: role for role, name in NAMES.items()}
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [Turn(roles[mark[1]], text[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]


def rendered(turns: Sequence[Turn], template: str) -> str:
    if template == AS_IT_IS:
        if len(turns) > 2:
            raise ValueError("turns cannot be joined without a template")
        return "".join(turn.content for turn in turns)
    start, gap = TEMPLATES[template]
    return start + "\n\n".join(f"{NAMES[turn.role]}:{gap}{turn.content}" for turn in turns)


Words = Annotated[str, PlainValidator(words)]


class Prompted(BaseModel):
    """A prompt with responses, or whole dialogues without one; validated with the template's name as the context."""

    prompt: list[Turn] = []

    @field_validator("prompt", mode="plain")
    @classmethod
    def as_prompt(cls, prompt: Any, info: ValidationInfo) -> list[Turn]:
        return read_prompt(prompt, str(info.context))

    @field_validator("chosen", "rejected", "responses", mode="plain", check_fields=False)
    @classmethod
    def as_dialogues(cls, responses: Any, info: ValidationInfo) -> list[Dialogue]:
        """Of one response or several; turns are one, but for a list that is called several."""
        is_list = isinstance(responses, list)
        is_one = is_list and any(isinstance(one, Mapping) and "answer" not in one for one in responses)
        several = responses if is_list and (not is_one or info.field_name == "responses") else [responses]
        if not several:
            raise ValueError("an empty list")
        if "prompt" not in info.data:  # it is what the error will be about
            return []
        return [read_dialogue(info.data["prompt"], one, str(info.context)) for one in several]


def fault_of(error: ValidationError, names: Mapping[str, str] = {}) -> str:
    """The first field that is not as it should be, by its name in the file, and why."""
    first = error.errors()[0]
    field = next(key for key in first["loc"] if isinstance(key, str))
    reason = f": {first['msg'].removeprefix('Value error, ')}"
    if first["type"] == "missing":
        reason = f" is missing; found {', '.join(first['input'])}"
    return f"field '{names.get(field, field)}'{reason}"
