"""RMB's best of N: one response above all others."""

from __future__ import annotations

from rmtension.data.layout import Layout
from rmtension.data.layouts.rmb_pairwise import COLUMNS, TASK

LAYOUT = Layout(COLUMNS | {"chosen": "bon_best", "rejected": "loser_list"}, responses={"chosen": 1}, subset=TASK)
