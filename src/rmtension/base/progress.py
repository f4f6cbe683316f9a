"""Progress for log files: a line every few seconds with rate and time left, no control characters."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

logger = logging.getLogger(__name__)

INTERVAL = 10.0  # seconds


class Progress:
    """Counts towards a total and logs at most one line every INTERVAL seconds, and one at the end."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.first = self.done = done
        self.tokens = 0
        self.started = self.logged = time.monotonic()

    def advance(self, count: int, tokens: int = 0, note: str = "") -> None:
        """Count `count` more units and `tokens` more tokens; `note` is shown behind the figures."""
        self.done += count
        self.tokens += tokens
        now = time.monotonic()
        if now - self.logged < INTERVAL and self.done < self.total:
            return
        self.logged = now
        seconds = max(now - self.started, 1e-9)
        rate = max((self.done - self.first) / seconds, 1e-9)
        left = timedelta(seconds=round((self.total - self.done) / rate))
        logger.info(
            "%s: %d of %d %s, %.1f %s/s, %.0f tokens/s, %s left%s",
            self.what, self.done, self.total, self.unit, rate, self.unit, self.tokens / seconds, left,
            f", {note}" if note else "",
        )  # fmt: skip
