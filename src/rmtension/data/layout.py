"""What a layout says: how the rows of a benchmark look in the files of its makers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

FIELDS = {"subset": "subset", "prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}


@dataclass(frozen=True)
class Layout:
    """Of one benchmark; a user's own file is its own upstream."""

    columns: Mapping[str, str]  # what we read -> what upstream calls it
    responses: Mapping[str, int] = field(default_factory=dict)  # side -> number of texts, where it is fixed
    subset: str = "(.*)"  # the part of the column `subset` that the task goes by
    faults: Mapping[str, pl.Expr] = field(default_factory=dict)  # what is said of a row -> where it is so
