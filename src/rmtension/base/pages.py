"""What is too long for a page of paper, in pieces, and what is too large for one of HTML, compressed."""

from __future__ import annotations

import base64
import gzip
import json
import re
from itertools import groupby
from typing import Any, TypeVar

T = TypeVar("T")
Rows = list[tuple[str, ...]]
PAGE = "page"  # class of the elements of a figure's svg that are a page each


def evenly(things: list[T], most: int) -> list[list[T]]:
    """In as few pieces of at most `most` as there can be, none much shorter than another."""
    n = -(-len(things) // most)
    return [things[len(things) * i // n : len(things) * (i + 1) // n] for i in range(n)]


def kept_together(rows: Rows, most: int) -> list[Rows]:
    """Rows in pieces of at most `most`; those of one first word stay together where a piece has room for them."""
    blocks = [list(block) for _, block in groupby(rows, key=lambda row: row[0])]
    pieces: list[Rows] = [[]]
    for part in (part for block in blocks for part in evenly(block, most)):
        if pieces[-1] and len(pieces[-1]) + len(part) > most:
            pieces.append([])
        pieces[-1] += part
    return pieces


def packed(block: Any) -> str:
    """JSON, compressed, in base64; the same bytes each time."""
    text = json.dumps(block, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def svg_pages(text: str) -> list[str]:
    """The pages of a figure's svg, each an svg by itself."""
    return re.findall(rf'<svg [^>]*class="{PAGE}".*?</svg>', text, re.DOTALL)
