"""Outputs appear whole or not at all, and what keeps them from it is said in one line."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import safetensors.torch
import yaml
from tokenizers import Tokenizer
from transformers import AutoConfig

from rmtension.errors import UserError
from rmtension.files import cause_of, replacing, write_text


def test_leftovers_of_a_killed_process_go_with_the_next_attempt(tmp_path: Path) -> None:
    for name in (".[x].md.1.partial", ".[x].md.77.partial", ".other.md.1.partial", ".x.md.1.partial"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".folder.1.partial").mkdir()
    (tmp_path / ".folder.1.partial" / "file").write_text("half")
    write_text("whole", tmp_path / "[x].md")
    with replacing(tmp_path / "folder") as folder:
        folder.mkdir()
    assert {path.name for path in tmp_path.iterdir()} == {"[x].md", "folder", ".other.md.1.partial", ".x.md.1.partial"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, number: int) -> None:
    (tmp_path / "x.md").write_text("before")
    line = rf"^\S*x\.md: cannot be written: {os.strerror(number)}; .*$"
    with pytest.raises(UserError, match=line), replacing(tmp_path / "x.md") as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a bug"), replacing(tmp_path / "x.md"):
        raise ValueError("a bug")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.md") as temporary:
        temporary.read_text()


# What is done wrong, and what of the library's words says so.
SAID: dict[str, tuple[Callable[[], Any], str]] = {
    "a strict dataclass": (
        lambda: AutoConfig.for_model("llama", hidden_size="16"),
        "'hidden_size' expected int, got str",
    ),
    "its validators": (lambda: AutoConfig.for_model("qwen2", layer_types=["x"]), "`layer_types` entries must be"),
    "a name that is looked up": (lambda: {"metadata": 0}["weight_map"], "'weight_map' is missing or not known"),
    "tokenizers": (lambda: Tokenizer.from_str('{"model": 3}'), "ModelUntagged at line 1"),
    "safetensors": (lambda: safetensors.torch.load(b"x" * 99), "header too large"),
    "polars": (lambda: pl.read_parquet(io.BytesIO(b"x" * 99)), "PAR1"),
    "json": (lambda: json.loads("[1"), "Expecting ',' delimiter"),
    "yaml": (lambda: yaml.safe_load("a: b: c"), "line 1: mapping values are not allowed"),
}


@pytest.mark.parametrize("library", SAID)
def test_what_a_library_says_is_shown_on_one_line_that_says_it(library: str) -> None:
    wrong, expected = SAID[library]
    with pytest.raises(Exception) as caught:  # noqa: PT011
        wrong()
    said = cause_of(caught.value)
    assert expected in said and "\n" not in said and not said.endswith(":")
