"""RewardBench: pairs, in subsets."""

from __future__ import annotations

from rmtension.data.layout import FIELDS, Layout

LAYOUT = Layout(FIELDS, responses={"chosen": 1, "rejected": 1})
