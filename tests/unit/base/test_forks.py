"""Processes side by side: each does its part, and none outlives the first or is missed by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, time
from pathlib import Path
from rmtension.base import forks

forks.PATIENCE = 0.1
folder = Path(sys.argv[1])

def work(number):
    (folder / f"{number}-{os.getpid()}").touch()
    PART
    return number

assert forks.side_by_side(3, work) == 0
print("whole")
"""


def start(part: str, folder: Path) -> subprocess.Popen[str]:
    script = SCRIPT.replace("PART", part)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=pipe, stderr=pipe, text=True)


def numbers(folder: Path) -> list[str]:
    return sorted(file.name.partition("-")[0] for file in folder.iterdir())


def processes(folder: Path) -> set[int]:
    return {int(file.name.partition("-")[2]) for file in folder.iterdir()}


def test_the_first_waits_until_each_has_done_its_part(tmp_path: Path) -> None:
    script = start("time.sleep(0.3 * number)\n    (folder / f'done-{number}').touch()", tmp_path)
    out, err = script.communicate(timeout=60)
    assert (script.returncode, out) == (0, "whole\n"), err
    assert numbers(tmp_path) == ["0", "1", "2", "done", "done", "done"]


@pytest.mark.parametrize("part", [
    "if number == 2: raise ValueError('this one')",
    "if number == 2: raise ValueError('this one')\n    if number == 0: time.sleep(60)",  # the first is not waited for
])  # fmt: skip
def test_where_one_fails_all_end_and_say_why(part: str, tmp_path: Path) -> None:
    script = start(part, tmp_path)
    out, err = script.communicate(timeout=30)
    assert script.returncode == 1 and not out
    assert "ValueError: this one" in err and "all of them end" in err


def test_none_outlives_the_first(tmp_path: Path) -> None:
    script = start("time.sleep(60)", tmp_path)
    while len(numbers(tmp_path)) < 3:
        time.sleep(0.05)
    found = processes(tmp_path)
    script.send_signal(signal.SIGKILL)
    script.communicate(timeout=30)
    until = time.monotonic() + 30
    while any(Path(f"/proc/{process}").exists() for process in found):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(found) == 3 and os.getpid() not in found
