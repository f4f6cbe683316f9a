"""A study file checked: every mistake in it is one line with its key."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from rmtension.base.errors import UserError
from rmtension.study.benchmarks import AllTests, OwnBenchmark, PublishedBenchmark, RegimeTest, SyntheticBenchmark
from rmtension.study.data import HHPairs, OwnPairs, SyntheticPairs
from rmtension.study.inputs import data_files, model_files
from rmtension.study.models import FolderModel, GgufModel, GivenModel, MadeModel
from rmtension.study.places import MODELS, adopted, from_hub, local_paths, origins, own_data
from rmtension.study.section import Located, nearest
from rmtension.study.study import Study


def check_study(settings: Mapping[str, Any], file: str, locked: Mapping[str, str]) -> Study:
    """Check a study file's content; `locked` is its lock file's.

    Raises UserError with one line for each mistake, naming `file` and the key.
    """
    try:
        study = Study.model_validate(settings, context=locked)
    except ValidationError as error:
        raise UserError(*(f"{file}: {describe(e)}" for e in error.errors())) from None
    refuse_shared_commits(study, file)
    return study


def refuse_shared_commits(study: Study, file: str) -> None:
    """A lock file has one line for an id on the hub, where a model and a dataset may have the same."""
    parts = from_hub(study)
    models = {(part.hub, part.revision): key for key, part in parts.items() if part.kind in MODELS}
    for key, part in parts.items():
        if part.kind not in MODELS and (other := models.get((part.hub, part.revision))):
            raise UserError(f"{file}: {key}.revision: {other} is called {part.hub}, too: give the commit of each here")


def load_study(settings: Mapping[str, Any], file: str, locked: Mapping[str, str] = {}) -> Study:
    """`check_study`, and that the local files it names exist, and are no links to nothing."""
    study = check_study(settings, file, locked)
    for key, (path, kind) in local_paths(study).items():
        # By os.path, for which a name that cannot be one is not there.
        if not os.path.exists(path):
            raise UserError(f"{file}: {key}: {path} does not exist; see docs/data.md for where to get it")
        if kind not in ("file" if os.path.isfile(path) else "folder" if os.path.isdir(path) else "", "file or folder"):
            raise UserError(f"{file}: {key}: {path} is no {kind}; name a {kind}")
    for key, files in read_locally(study).items():
        try:
            files()
        except UserError as error:
            raise UserError(f"{file}: {key}: {error}") from None
    return study


def read_locally(study: Study) -> dict[str, Callable[[], list[Path]]]:
    """Key of the study file -> what lists the local files that are read of what it names."""
    trained = {f"models.{m}.trained.{r}.{seed}": folder for (m, r, seed), folder in adopted(study).items()}
    located = {key: part for key, part in origins(study).items() if isinstance(part, Located) and part.path}
    return {
        **{key: partial(data_files, *place) for key, place in own_data(study).items()},
        **{key: partial(part.files, study.data_root) for key, part in located.items()},
        **{key: partial(model_files, folder) for key, folder in trained.items()},
    }


KINDS = {kind for kinds in (MadeModel, FolderModel, GgufModel, GivenModel, SyntheticPairs, HHPairs, OwnPairs,
                            RegimeTest, AllTests, SyntheticBenchmark, PublishedBenchmark, OwnBenchmark)
         for kind in get_args(kinds.model_fields["kind"].annotation)}  # fmt: skip


def describe(error: Any) -> str:
    """One pydantic error as `key: what is wrong`; the tags that pydantic puts into union keys are left out."""
    keys: list[str] = []
    for part in error["loc"]:
        # Pydantic adds a union member's tag behind the key that holds the union.
        is_tag = part in KINDS and (keys[2:] == ["source"] if keys[:1] == ["models"] else len(keys) == 2)
        keys += [] if is_tag or part in ("[key]", "[percent]", "[count]") else [str(part)]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "union_tag_invalid":
        expected = re.findall(r"'([^']+)'", error["ctx"]["expected_tags"])
        keys.append("kind")
        message = f"unknown kind '{error['ctx']['tag']}'; {nearest(error['ctx']['tag'], expected)}"
    elif error["type"] == "union_tag_not_found":
        keys.append("kind")
        message = "this key is missing"
    elif error["type"] == "missing":
        message = "this key is missing"
    elif isinstance(error["input"], int | float | str | bool):
        message = f"{message}; got {error['input']!r}"
    return f"{'.'.join(keys)}: {message}" if keys else message
