"""A reward model that is given: checked once, linked into the study, and put in every place that is its."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from transformers import AutoModelForSequenceClassification

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, fingerprint, link_files, replacing, write_checksums
from rmtension.data.dialogues import Turn, rendered
from rmtension.engine.adoption import check_reward_model, check_settings
from rmtension.engine.reading import ChatReader
from rmtension.engine.reward_model import load_config, load_tokenizer, load_whole
from rmtension.study.inputs import GIVEN
from rmtension.study.models import GivenModel
from rmtension.study.section import nearest


def look_at(folder: Path) -> int:
    """Number of parameters of the reward model in `folder`, without reading its weights.

    UserError, one line, where it is none, or where its weights are not those of its settings.
    """
    check_settings(folder)
    model = load_whole(AutoModelForSequenceClassification, folder, is_backbone=False, device_map="meta")
    return int(model.num_parameters())


def own_form(folder: Path) -> Literal["chat", "hh"]:
    """The form in which a reward model reads dialogues: its tokenizer's chat template, unless that renders hh's."""
    if load_tokenizer(folder).chat_template is None:
        return "hh"
    turns = [Turn("user", "How are you?"), Turn("assistant", "Well.")]
    return "hh" if ChatReader(folder).rendered(turns) == rendered(turns, "hh") else "chat"


def check_label(folder: Path, label: str | None) -> None:
    """UserError where the label that is to be the reward is none of those that the folder's config.json names."""
    known = [str(name) for name in load_config(folder).id2label.values()]
    if label is not None and label not in known:
        raise UserError(f"{folder}: no label '{label}' in its config.json; {nearest(label, known)}")


def give_reward_model(source: GivenModel, data_root: str, output: Path) -> None:
    """Check a reward model of a local folder and link what is read of it into the folder `output`.

    UserError, one line, where it is none, or cannot be read as it is.
    """
    check_label(source.local(data_root), source.label)
    check_reward_model(source.local(data_root), source.template)
    with replacing(output) as temporary:
        link_files(source.files(data_root), temporary)
        (temporary / GIVEN).write_text(json.dumps(source.model_dump(include={"template", "label"})) + "\n")
        write_checksums(temporary)


def put_reward_model(folder: Path, output: Path, given: str, environment: dict[str, str]) -> None:
    """Link the files of `folder`, where give_reward_model has put it, into a place of its own without reading them.

    given: what the study calls it, for provenance.json.
    """
    files = [file for file in sorted(folder.iterdir()) if file.name != CHECKSUMS]
    origins = {"reward_model": fingerprint(folder / CHECKSUMS)}
    provenance = {"method": "given", "given": given, "origins": origins, "environment": environment}
    with replacing(output) as temporary:
        link_files(files, temporary)
        (temporary / CHECKSUMS).write_bytes((folder / CHECKSUMS).read_bytes())  # of the same files
        (temporary / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
