"""RewardBench 2: one chosen response or, in Ties, several; the ids of Ties say which rows belong together."""

from __future__ import annotations

import polars as pl

from rmtension.data.layout import FIELDS, Layout
from rmtension.data.tasks import TIES

IS_TIES, ID = pl.col("subset") == TIES, pl.col("id")
LAYOUT = Layout(
    FIELDS | {"id": "id"},
    faults={
        "field 'id': neither ref:N nor tied:N": IS_TIES & ~ID.str.contains(r"^(ref|tied):\d+$"),
        "field 'id': that of another row": IS_TIES & ID.is_duplicated(),
    },
)
