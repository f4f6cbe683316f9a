"""What is done where a device's memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from rmtension.base.errors import UserError
from rmtension.base.processes import anywhere

logger = logging.getLogger(__name__)

T = TypeVar("T")


def within_memory(work: Callable[[int], T], budget: int, longest: int) -> tuple[T, int]:
    """What `work(budget)` returns, with the budget halved until the device's memory suffices; and that budget.

    Work that has failed is done again from its beginning, so its result is that of one budget. All processes that
    work together do so alike. longest: tokens of the longest comparison; UserError where it alone is too much.
    """
    while True:
        result: list[T] = []
        try:
            result.append(work(budget))
        except torch.OutOfMemoryError as error:
            logger.warning("%s", error)
        if not anywhere(not result):
            return result[0], budget
        if budget <= longest:
            raise UserError(
                f"out of device memory with one comparison of {longest} tokens at a time: this takes a larger GPU, or "
                "in training a lower training.max_tokens, training.memory: lean, or compute.sharded over several GPUs"
            )
        budget //= 2
        result.clear()
        torch.cuda.empty_cache()
        logger.warning("out of device memory: once more, with at most %d tokens at a time", budget)
