"""Outputs appear whole or not at all, and what keeps them from it is said in one line."""

from __future__ import annotations

import ast
import errno
import fcntl
import io
import json
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest
import safetensors.torch
import yaml
from tokenizers import Tokenizer
from transformers import AutoConfig

from rmtension.base import files
from rmtension.base.errors import UserError
from rmtension.base.files import cause_of, link_files, replacing, write_text

ONE, OTHER = "1" * 32, "a7" * 16  # as temporary names have them


def test_leftovers_of_a_killed_process_go_with_the_next_attempt(tmp_path: Path) -> None:
    others = {f".other.md.{ONE}.partial", f".x.md.{ONE}.partial", ".[x].md.mine.partial", f".[x].md.{ONE}.partial.md"}
    for name in (f".[x].md.{ONE}.partial", f".[x].md.{OTHER}.partial", ".[x].md.partial.lock", *others):
        (tmp_path / name).write_text("half")
    (tmp_path / f".folder.{ONE}.partial").mkdir()
    (tmp_path / f".folder.{ONE}.partial" / "file").write_text("half")
    write_text("whole", tmp_path / "[x].md")
    with replacing(tmp_path / "folder") as folder:
        folder.mkdir()
    assert {path.name for path in tmp_path.iterdir()} == {"[x].md", "folder", *others}


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    mine, link = tmp_path / "mine", tmp_path / "link"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    link.symlink_to("mine")
    for folder in (mine, link):
        with pytest.raises(UserError, match=f"{folder.name}: a folder; name a file to write"):
            write_text("page", folder)
    with replacing(link) as folder:
        folder.mkdir()
    assert not link.is_symlink() and (mine / "thesis.tex").read_text() == "years"
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "link"}


@pytest.mark.parametrize(
    ("place", "reason"),
    [("dead/x.md", "File exists"), ("file/x.md", "File exists"), ("file/a/x.md", "Not a directory"),
     ("x" * 300, "File name too long")],
)  # fmt: skip
def test_a_place_that_cannot_be_is_one_line(place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "dead").symlink_to("a disk that is not there")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"^.*{place}: cannot be written: {reason}; mend that and start again$"):
        write_text("page", tmp_path / place)


def test_links_within_the_project_move_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, disk = tmp_path / "project", tmp_path / "disk"
    for folder in (project / "mine", disk):
        folder.mkdir(parents=True)
        (folder / f"{folder.name}.txt").write_text(folder.name)
    (project / "results").symlink_to(disk)  # from there nothing leads back but a whole path
    monkeypatch.chdir(project)
    files = [Path("mine/mine.txt"), disk / "disk.txt"]
    for place in ("made/here", "results/there"):
        link_files(files, Path(place))
        assert [(Path(place) / file.name).read_text() for file in files] == ["mine", "disk"]
    links = {f"{place}/{file.name}": (project / place / file.name).readlink().is_absolute()
             for place in ("made/here", "results/there") for file in files}  # fmt: skip
    assert [link for link, is_absolute in links.items() if not is_absolute] == ["made/here/mine.txt"]


def count(path: Path) -> None:
    for _ in range(100):
        with replacing(path) as temporary:
            temporary.write_text(str(int(path.read_text()) + 1))


def test_processes_replace_a_file_one_after_another(tmp_path: Path) -> None:
    write_text("0", tmp_path / "x")
    processes = [get_context("fork").Process(target=count, args=(tmp_path / "x",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "x").read_text() == "400"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_is_being_written_is_no_leftover(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with replacing(tmp_path / "x") as temporary:
        temporary.write_text("first")
        other = Thread(target=write_text, args=("second", tmp_path / "x"))
        other.start()
        while "waiting for another process" not in caplog.text:
            assert other.is_alive()
        assert temporary.read_text() == "first"
    other.join()
    assert (tmp_path / "x").read_text() == "second"


def test_without_locks_leftovers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / f".x.{ONE}.partial").touch()
    write_text("whole", tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"x", f".x.{ONE}.partial"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, number: int) -> None:
    (tmp_path / "x.md").write_text("before")
    line = rf"^\S*x\.md: cannot be written: {os.strerror(number)}; .*$"
    with pytest.raises(UserError, match=line), replacing(tmp_path / "x.md") as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("of", ["", "/"], ids=["relative", "from the root"])
@pytest.mark.parametrize(
    ("names", "is_output"),
    [
        (["out/x"], True),
        (["out/.x.1.partial/a/weights"], True),
        (["out"], True),
        (["in/rows", "out/.x.1.partial/rows"], True),  # as shutil says it of a copy
        (["in/rows"], False),
        (["out/y/x"], False),
    ],
)
def test_the_file_is_named_that_the_system_refuses(
    names: list[str], is_output: bool, of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = [f"{tmp_path}/{name}" if of else name for name in names]
    with pytest.raises(UserError) as raised, replacing(Path("out/x")):
        raise OSError(errno.EACCES, "", named[0], None, *named[1:])
    fault = "out/x: cannot be written" if is_output else named[0]
    assert str(raised.value) == f"{fault}: Permission denied; mend that and start again"


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a bug"), replacing(tmp_path / "x.md"):
        raise ValueError("a bug")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.md") as temporary:
        temporary.read_text()


def test_no_path_is_taken_for_a_pattern() -> None:
    """As `[1]` in it would be, wherever a table is read."""
    for file in Path(files.__file__).parents[1].rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_parquet", "scan_parquet"):
                assert "glob" in [word.arg for word in call.keywords], f"{file}:{call.lineno}"


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
