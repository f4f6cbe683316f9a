"""RM-Bench: three responses on each side, each in a style of its own."""

from __future__ import annotations

from rmtension.data.layout import FIELDS, Layout

LAYOUT = Layout(FIELDS | {"subset": "domain"}, responses={"chosen": 3, "rejected": 3})
