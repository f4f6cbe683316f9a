"""RMB's pairs: conversations, in folders of set, goal, task and perhaps scenario."""

from __future__ import annotations

from rmtension.data.layout import FIELDS, Layout

COLUMNS = FIELDS | {"subset": "category_path", "prompt": "conversation_input"}
TASK = "^[^/]+/([^/]+/[^/]+)"  # of set/goal/task or set/goal/task/scenario
LAYOUT = Layout(COLUMNS | {"rejected": "reject"}, responses={"chosen": 1, "rejected": 1}, subset=TASK)
