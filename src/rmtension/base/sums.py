"""Sums whose last digits do not depend on the order of the rows."""

from __future__ import annotations

import polars as pl
from polars.expr.list import ExprListNameSpace


def summable(numbers: pl.Expr) -> ExprListNameSpace:
    """Floats to be summed or averaged, in an order of their own: `.mean()`, `.sum()` and the like follow.

    The last digits of a sum depend on its order. Polars adds rows as a join leaves them, a part for each thread, and
    drops a sort just before a sum; within a list it adds one after the other.
    """
    return numbers.sort().implode().list
