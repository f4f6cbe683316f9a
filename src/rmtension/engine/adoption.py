"""A reward model that was trained elsewhere: checked, then linked to where training would have put it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, fingerprint, is_there, link_files, replacing, write_checksums
from rmtension.data.dialogues import CHAT
from rmtension.engine.heads import Choice
from rmtension.engine.kinds import refuse_other_kinds
from rmtension.engine.reading import load_reader
from rmtension.engine.reward_model import load_config, load_reward_model, load_tokenizer
from rmtension.engine.self_check import check_ending, check_score, check_states
from rmtension.study.inputs import GIVEN, model_files


def check_backbone(folder: Path, model: Any, backbone: Path) -> None:
    """UserError where statistics of change could not set the model beside `backbone`."""
    with torch.device("meta"):
        bare = AutoModel.from_config(load_config(backbone))
    base = bare.state_dict()
    embeddings = model.get_input_embeddings().weight
    for name, tensor in model.base_model.state_dict().items():
        expected = tuple(base[name].shape) if name in base else ()
        shape = tuple(tensor.shape)
        # Rows for further tokens, as padding, change nothing that a text of the backbone's comes to.
        further = tensor.data_ptr() == embeddings.data_ptr() and shape > expected and shape[1:] == expected[1:]
        if shape != expected and not further:
            raise UserError(f"{folder}: tensor {name} is {tuple(tensor.shape)}, in the backbone {expected or 'none'}")
    tokenizer = load_tokenizer(folder)
    if not load_tokenizer(backbone).get_vocab().items() <= tokenizer.get_vocab().items():
        raise UserError(f"{folder}: its tokenizer gives other ids than the backbone's")
    rows = bare.get_input_embeddings().num_embeddings
    if unknown := [number for number in read_of_texts(tokenizer) if number >= rows]:
        token = tokenizer.convert_ids_to_tokens(unknown[0])
        raise UserError(
            f"{folder}: its tokenizer reads token '{token}' of texts, for which the backbone has no embedding: give "
            "the study a backbone that has"
        )


def read_of_texts(tokenizer: Any) -> list[int]:
    """Ids, in order, that a tokenizer can give of texts: all but special tokens that it does not put around each."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted({*tokenizer.get_vocab().values()} - special | {*tokenizer("")["input_ids"]})


def check_settings(folder: Path) -> None:
    """UserError with one line where what a folder says of itself is no reward model."""
    refuse_other_kinds(folder)
    if not (folder / "tokenizer_config.json").exists():
        raise UserError(f"{folder}: tokenizer_config.json is missing")
    load_config(folder)


def check_reward_model(folder: Path, template: str = "hh", choice: Choice | None = None) -> Any:
    """The reward model in `folder`; UserError with one line where it is none, or cannot be read as it is.

    template: the form in which it reads dialogues; choice: as load_reward_model has it.
    """
    check_settings(folder)
    reader, model = load_reader(folder, template), load_reward_model(folder, torch.device("cpu"), choice)
    check_states(folder, model, reader)
    if template != CHAT:  # of which a template may well end in it
        check_ending(folder, reader.tokenizer, reader.padding)
    check_score(folder, model, reader)
    return model


def check(folder: Path, backbone: Path) -> None:
    """UserError with one line where `folder` is no reward model that can stand beside those trained here."""
    if is_there(folder / GIVEN):  # which says how it is read: of the others of a study the study itself does
        raise UserError(f"{folder}: given to another study, which says in {GIVEN} how it is read: name its own folder")
    check_settings(folder)
    family, of_backbone = load_config(folder).model_type, load_config(backbone).model_type
    if family != of_backbone:
        raise UserError(f"{folder}: model family '{family}', but the backbone's is '{of_backbone}'")
    check_backbone(folder, check_reward_model(folder), backbone)


def adopt_reward_model(folder: Path, backbone: Path, output: Path, environment: dict[str, str]) -> None:
    """Check `folder` and link its files into the folder `output`, where provenance.json says where they come from."""
    check(folder, backbone)
    with replacing(output) as temporary:
        link_files(model_files(folder), temporary)
        write_checksums(temporary)
        origins = {"reward_model": temporary / CHECKSUMS, "backbone": backbone / CHECKSUMS}
        provenance = {
            "adopted": str(folder),
            "origins": {name: fingerprint(file) for name, file in origins.items()},
            "environment": environment,
        }
        (temporary / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
