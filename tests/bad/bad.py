"""What every bad input has in common: one line that says what is wrong, where, and what to do; nothing is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_backbone

from rmtension.base.errors import UserError
from rmtension.engine.reward_model import load_tokenizer, new_reward_model, save_reward_model


@contextmanager
def refused(expected: str, folder: Path) -> Iterator[None]:
    """One line in which the regular expression is found; no file in `folder` has come or gone."""
    before = set(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert message.isprintable(), "one line, and nothing that moves a terminal's cursor"
    assert re.search(expected, message), message
    assert set(folder.rglob("*")) == before


def both(first: Callable[[Path], object], then: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(place: Path) -> None:
        first(place)
        then(place)

    return spoil


def save_models(family: str, folder: Path) -> None:
    """A random `backbone`, and a `reward_model` on it."""
    save_backbone(family, folder / "backbone")
    model = new_reward_model(folder / "backbone", 0, 0.5)
    save_reward_model(model, load_tokenizer(folder / "backbone"), folder / "reward_model")


class Trap:
    """Whoever unpickles this makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)
