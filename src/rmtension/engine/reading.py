"""How a reward model reads dialogues: in the form that they are stored in, or as its own chat template renders them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import polars as pl

from rmtension.base.errors import UserError
from rmtension.base.files import cause_of, is_there
from rmtension.data.dialogues import CHAT, Dialogue, Turn
from rmtension.engine.packing import Packed
from rmtension.engine.reward_model import load_config, load_tokenizer, pack_comparisons
from rmtension.study.inputs import GIVEN

logger = logging.getLogger(__name__)

# Some templates write the date. A study has the same bytes on any day, so theirs is the one that Llama's fall back on.
DAY = datetime(2024, 7, 26)
PROBE = [Turn("user", "How is bread made?"), Turn("assistant", "Knead 500 g of flour.")]
FILLERS = ("a", "b")  # responses that begin with nothing in common


class Reader:
    """Reads each text by its tokenizer's plain call, up to the token that transformers' classifiers score; it can be
    called as a tokenizer itself.

    That is the last one which is not the padding token: of a text that ends in padding tokens, the one before them.
    What comes behind makes no difference to a causal model.
    refused: texts that it could not read, and why; they have no token.
    """

    def __init__(self, folder: Path, template: str, padding: int | None = None) -> None:
        """padding: the padding token of the reward model's configuration; None for that of the folder's."""
        self.template, self.tokenizer = template, load_tokenizer(folder)
        own = load_config(folder).get_text_config().pad_token_id
        self.padding = own if padding is None else padding
        self.refused: dict[str, str] = {}

    def dialogue(self, text: str) -> Dialogue:
        """A text as it is stored; ValueError where it cannot be read."""
        return Dialogue.whole(text, self.template)

    def form(self, dialogue: Dialogue) -> str:
        """The text that the model reads; ValueError where there is none."""
        return dialogue.text

    def start(self, dialogue: Dialogue, form: str) -> int:
        """Where the response begins in that text."""
        return dialogue.start

    def encode(self, forms: Sequence[str], **options: Any) -> Mapping[str, list[Any]]:
        """What a tokenizer gives of texts that are in their form already; input_ids, and with options more."""
        encoded: Mapping[str, list[Any]] = self.tokenizer(list(forms), **options)
        scored = [self.scored(ids) for ids in encoded["input_ids"]]
        return {
            name: [values[:n] for values, n in zip(several, scored, strict=True)] for name, several in encoded.items()
        }

    def scored(self, ids: Sequence[int]) -> int:
        """How many tokens there are up to the last one that is not padding; of nothing but padding the first."""
        n = len(ids)
        while n > 1 and ids[n - 1] == self.padding:
            n -= 1
        return n

    def __call__(self, texts: Sequence[str]) -> Mapping[str, list[Any]]:
        """input_ids of texts as they are stored."""
        return self.encode(texts)


class ChatReader(Reader):
    """Reads dialogues as transformers' apply_chat_template does; UserError where there is no template to do it by."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CHAT)
        if self.tokenizer.chat_template is None:
            raise UserError(f"{folder}: its tokenizer has no chat template; take template: hh, or give it one")
        try:
            self.chat_template = of_one_day(self.tokenizer.get_chat_template())
            probes = [self.rendered([PROBE[0], PROBE[1]._replace(content=filler)]) for filler in FILLERS]
            self.rendered([*PROBE, *PROBE])
        except ValueError as error:
            raise UserError(f"{folder}: its chat template cannot be used ({error}); correct it") from None
        if probes[0] == probes[1]:
            raise UserError(f"{folder}: its chat template leaves out what the assistant says; correct it")

    def rendered(self, turns: Sequence[Turn]) -> str:
        """A dialogue in the form of the template; ValueError where that refuses it."""
        messages = [turn._asdict() for turn in turns]
        try:
            # What compiles templates keeps them.
            text: str = self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, tokenize=False)
        except MemoryError:
            raise
        except Exception as error:  # a template may raise whatever it likes
            raise ValueError(f"its chat template says: {cause_of(error)}") from error
        return text

    def form(self, dialogue: Dialogue) -> str:
        return self.rendered(dialogue.turns)

    def start(self, dialogue: Dialogue, form: str) -> int:
        *before, last = dialogue.turns
        others = [self.rendered([*before, last._replace(content=filler)]) for filler in FILLERS]
        return sum(1 for _ in takewhile(lambda same: len({*same}) == 1, zip(form, *others, strict=False)))

    def encode(self, forms: Sequence[str], **options: Any) -> Mapping[str, list[Any]]:
        return super().encode(forms, add_special_tokens=False, **options)  # the template writes them

    def __call__(self, texts: Sequence[str]) -> Mapping[str, list[Any]]:
        forms: dict[str, str] = {}
        for text in texts:
            try:
                forms[text] = self.form(self.dialogue(text))
            except ValueError as error:
                self.refused[text] = str(error)
        ids = dict(zip(forms, self.encode([*forms.values()])["input_ids"], strict=True)) if forms else {}
        return {"input_ids": [ids.get(text, []) for text in texts]}


def of_one_day(template: str) -> str:
    """A chat template whose strftime_now, which transformers gives to templates, tells of DAY."""
    if "strftime_now" not in template:
        return template
    directives = {f"%{letter}": DAY.strftime(f"%{letter}") for letter in "aAbBdeFHIjmMpSyY"}
    replaced = "".join(f".replace({directive!r}, {value!r})" for directive, value in directives.items())
    # The end of line behind a block is none of the text.
    return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n{template}"


def load_reader(folder: Path, template: str | None = None) -> Reader:
    """The reader of a reward model's folder. template: of FORMS; None for the one in which a study reads it."""
    template = template or own_template(folder)
    return ChatReader(folder) if template == CHAT else Reader(folder, template)


def load_backbone_reader(folder: Path) -> Reader:
    """As the reward models trained from the backbone in `folder` read, whose padding token is the tokenizer's; of the
    folder of a given reward model its own."""
    return (
        load_reader(folder) if is_there(folder / GIVEN) else Reader(folder, "hh", load_tokenizer(folder).pad_token_id)
    )


def own_template(folder: Path) -> str:
    """The form in which the reward model in `folder` reads dialogues: hh, unless GIVEN says otherwise."""
    file = folder / GIVEN
    return str(json.loads(file.read_text(encoding="utf-8"))["template"]) if is_there(file) else "hh"


def pack_table(reader: Reader, comparisons: pl.DataFrame, max_tokens: int) -> tuple[list[int], list[Packed]]:
    """pack_comparisons of a table: comparison_id, chosen, rejected (lists of texts). The log has what is left out."""
    sides = comparisons["chosen"].to_list(), comparisons["rejected"].to_list()
    kept, packed = pack_comparisons(reader, *sides, max_tokens)
    left_out = sorted({*range(len(comparisons))} - {*kept})
    texts = {row: [text for side in sides for text in side[row]] for row in left_out}
    refused = {row: reader.refused[one] for row, of_row in texts.items() for one in of_row if one in reader.refused}
    if refused:
        row, reason = next(iter(refused.items()))
        where = f"comparison {comparisons['comparison_id'][row]}"
        logger.warning("%s, and %d others, cannot be read: %s", where, len(refused) - 1, reason)
    if n := len(left_out) - len(refused):
        what = f"have a text that is empty or longer than {max_tokens} tokens"
        logger.warning("%d of %d comparisons %s", n, len(comparisons), what)
    return kept, packed


def unread(place: str, n: int, folder: Path, longest: int) -> UserError:
    """What is said where pack_table keeps none of the `n` comparisons of a file, `place`, for the model in `folder`."""
    fault = f"{folder}, which reads {longest} tokens, can read none of these {n} comparisons"
    return UserError(f"{place}: {fault}: take their benchmark or the model out of the study")
