"""A file dated in the future stops a run before its first job, in one line whose command helps."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from rmtension.base.errors import UserError
from rmtension.running.dates import date_of_new, refuse_future

DAY, LARGE = 86_400.0, 10  # seconds; bytes


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def dated(file: Path, ahead: float, size: int = 1) -> Path:
    """A file of a size, or a link that is there, that many seconds in the future."""
    if not file.is_symlink():
        file.write_bytes(bytes(size))
    date = time.time() + ahead
    os.utime(file, (date, date), follow_symlinks=False)
    return file


def linked(file: Path, to: Path) -> Path:
    file.symlink_to(to.name)
    return file


def test_the_command_of_the_line_helps(tmp_path: Path, waited: list[float]) -> None:
    files = [dated(tmp_path / name, ahead) for name, ahead in [("a", -DAY), ("b 1", DAY), ("c", 2 * DAY)]]
    files.append(dated(linked(tmp_path / "d", to=files[0]), DAY))
    with pytest.raises(UserError) as caught:
        refuse_future(files, tmp_path, LARGE)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{tmp_path}/b 1: dated 2")
    subprocess.run(message.split("`")[1], shell=True, check=True)
    refuse_future(files, tmp_path, LARGE)
    assert files[0].stat().st_mtime < time.time() - DAY / 2  # was left alone
    assert {file.name for file in tmp_path.iterdir()} == {"a", "b 1", "c", "d"}


@pytest.mark.parametrize(("size", "counts"), [(LARGE, False), (LARGE + 1, True)])
def test_the_file_that_a_link_leads_to_counts_where_snakemake_goes_by_its_date(
    size: int, counts: bool, tmp_path: Path, waited: list[float]
) -> None:
    target = dated(tmp_path / "blob", DAY, size)
    link = linked(tmp_path / "model.safetensors", to=target)
    if not counts:
        refuse_future([link], tmp_path, LARGE)
        return
    with pytest.raises(UserError, match=f"^{target}: .*`touch {target}`"):
        refuse_future([link], tmp_path, LARGE)


def test_clocks_that_differ_a_little_are_waited_for(tmp_path: Path, waited: list[float]) -> None:
    files = [dated(tmp_path / "a", 20), dated(tmp_path / "b", 30), dated(tmp_path / "c", -5)]
    refuse_future(files, tmp_path, LARGE)
    assert len(waited) == 1 and 20 < waited[0] < 31
    refuse_future(files[2:], tmp_path, LARGE)
    assert len(waited) == 1


def test_the_clock_is_that_of_the_disk_with_the_results(
    tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = dated(tmp_path / "a", DAY)
    monkeypatch.setattr("rmtension.running.dates.date_of_new", lambda folder: time.time() + 2 * DAY)
    refuse_future([file], tmp_path, LARGE)
    monkeypatch.undo()
    assert abs(date_of_new(tmp_path / "new") - time.time()) < DAY
    assert list((tmp_path / "new").iterdir()) == []


def test_the_clock_of_a_disk_is_read_without_a_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / ".clock").write_text("mine")
    assert abs(date_of_new(tmp_path) - time.time()) < DAY
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {".clock": "mine"}
