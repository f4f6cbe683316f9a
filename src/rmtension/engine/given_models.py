"""A reward model that is given: checked once, linked into the study, and put in every place that is its."""

from __future__ import annotations

import json
from pathlib import Path

from rmtension.base.files import CHECKSUMS, fingerprint, link_files, replacing, write_checksums
from rmtension.engine.adoption import check_reward_model
from rmtension.study.models import GivenModel

SAID = "given.json"  # what the study says of how its folder is to be read, so that whoever loads it knows


def give_reward_model(source: GivenModel, data_root: str, output: Path) -> None:
    """Check a reward model of a local folder and link what is read of it into the folder `output`.

    UserError, one line, where it is none, or cannot be read as it is.
    """
    check_reward_model(source.local(data_root))
    with replacing(output) as temporary:
        link_files(source.files(data_root), temporary)
        if source.label is not None:
            (temporary / SAID).write_text(json.dumps({"label": source.label}) + "\n")
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
