"""Outputs appear whole or not at all, and what keeps them from it is said in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rmtension.errors import UserError
from rmtension.files import replacing, write_text


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
