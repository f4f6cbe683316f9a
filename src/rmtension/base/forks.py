"""Several processes on one machine that do parts of one work."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

logger = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that a failed process waits for the first one to fail too, and to say so
T = TypeVar("T")
last_words: list[Callable[[], object]] = []  # said by the first process where it ends because another one failed


def side_by_side(processes: int, work: Callable[[int], T]) -> T:
    """Do `work` in so many processes, each with its number from 0 on; returns what this one, the first, makes of it.

    The others are forked: call it before anything has used a GPU or threads, polars' too. If one dies, so do all.
    """
    alive, end = os.pipe()  # the end that is written to is the first process's alone: it closes however that dies
    others = []
    for number in range(1, processes):
        if (child := os.fork()) == 0:
            os.close(end)
            be_another(alive, partial(work, number))
        others.append(threading.Thread(target=end_with, args=(child,), daemon=True))
    for thread in others:
        thread.start()
    result = work(0)
    for thread in others:
        thread.join()
    os.close(alive)
    os.close(end)
    return result


def dealt(items: Sequence[T]) -> Iterator[T]:
    """These items, 256 at most, each to whichever process comes for its next one: for `side_by_side`, and called before
    it, where some items take much longer than others."""
    todo, end = os.pipe()
    os.write(end, bytes(range(len(items))))
    os.close(end)
    return (items[number] for [number] in iter(lambda: os.read(todo, 1), b""))


def be_another(alive: int, work: Callable[[], object]) -> None:
    """In a forked process: do `work` and end, with the first process at the latest."""

    def end_with_first() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=end_with_first, daemon=True).start()
    logging.disable(logging.INFO)  # the first one tells how it goes
    status = 0
    try:
        work()
    except BaseException as error:
        time.sleep(PATIENCE)  # what all stumble over, the first one reports
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def end_with(other: int) -> None:
    """In the first process, which may be waiting for it in vain: end if another one fails."""
    _, status = os.waitpid(other, 0)
    if status:
        logger.error("one of the processes failed: all of them end")
        for say in last_words:
            say()
        os._exit(1)
