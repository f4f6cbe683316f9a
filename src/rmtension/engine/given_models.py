"""A reward model that is given: checked once, linked into the study, and put in every place that is its."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

from rmtension.base.files import CHECKSUMS, fingerprint, link_files, replacing, write_checksums
from rmtension.data.dialogues import Turn, rendered
from rmtension.engine.adoption import check_reward_model, check_settings
from rmtension.engine.heads import Choice
from rmtension.engine.reading import ChatReader
from rmtension.engine.reward_model import load_reward_model, load_tokenizer
from rmtension.study.inputs import GIVEN
from rmtension.study.models import GivenModel

AS_IT_IS = Choice()


def look_at(folder: Path, choice: Choice = AS_IT_IS) -> int:
    """Number of parameters of the reward model in `folder`, of whose weights only the head's are read.

    UserError, one line, where it is none, or where its weights are not those of its settings.
    """
    check_settings(folder)
    return int(load_reward_model(folder, torch.device("meta"), choice, device_map="meta").num_parameters())


def own_form(folder: Path) -> Literal["chat", "hh"]:
    """The form in which a reward model reads dialogues: its tokenizer's chat template, unless that renders hh's."""
    if load_tokenizer(folder).chat_template is None:
        return "hh"
    turns = [Turn("user", "How are you?"), Turn("assistant", "Well.")]
    return "hh" if ChatReader(folder).rendered(turns) == rendered(turns, "hh") else "chat"


def choice_of(source: GivenModel) -> Choice:
    """What the study says of its head."""
    return Choice(source.label, source.activation)


def give_reward_model(source: GivenModel, data_root: str, output: Path) -> None:
    """Check a reward model of a local folder and link what is read of it into the folder `output`.

    UserError, one line, where it is none, or cannot be read as it is.
    """
    check_reward_model(source.local(data_root), source.template, choice_of(source))
    with replacing(output) as temporary:
        link_files(source.files(data_root), temporary)
        said = {"template": source.template, **choice_of(source)._asdict()}
        (temporary / GIVEN).write_text(json.dumps(said) + "\n")
        write_checksums(temporary)


def put_reward_model(folder: Path, output: Path, given: str, environment: dict[str, str]) -> None:
    """Link the files of `folder`, where give_reward_model has put it, into a place of its own without reading them.

    given: what the study calls it, for provenance.json.
    """
    files = [file for file in sorted(folder.iterdir()) if file.name not in (CHECKSUMS, GIVEN)]
    origins = {"reward_model": fingerprint(folder / CHECKSUMS)}
    provenance = {"method": "given", "given": given, "origins": origins, "environment": environment}
    with replacing(output) as temporary:
        link_files(files, temporary)
        for name in (GIVEN, CHECKSUMS):  # the study's own; the latter stands for the same files
            (temporary / name).write_bytes((folder / name).read_bytes())
        (temporary / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
