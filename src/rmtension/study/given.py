"""What a study of given reward models does without: there is no backbone beside them, and nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmtension.study.compatibility import with_defaults
from rmtension.study.scorings import Neurons

NEED_BASE = {"change"}  # scorings that set a reward model beside the backbone that it was trained from
READ_OF_TRAINING = {"max_tokens"}  # keys of `training` that say what statistics read, too


def with_given_defaults(data: Any) -> Any:
    """The content of a study file; where reward models are given, by default with those scorings that need no base.

    What is malformed is left as it is, for the fields to refuse.
    """
    if not isinstance(data, Mapping) or not any(map(is_given, values(data.get("models")))):
        return data
    scorings = Neurons.model_fields["scorings"].get_default()
    without_base = {"scorings": [scoring for scoring in scorings if scoring not in NEED_BASE]}
    return {**data, "neurons": with_defaults(data.get("neurons", {}), without_base)}


def values(section: Any) -> list[Any]:
    return list(section.values()) if isinstance(section, Mapping) else []


def is_given(model: Any) -> bool:
    source = model.get("source") if isinstance(model, Mapping) else None
    return isinstance(source, Mapping) and source.get("kind") == "given"
