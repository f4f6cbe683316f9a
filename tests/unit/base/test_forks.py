"""Processes side by side: each does its part, and one that fails is not passed over."""

from __future__ import annotations

import subprocess
import sys
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


def test_each_item_is_dealt_once_and_none_waits_for_a_long_one(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from rmtension.base import forks
folder = Path(sys.argv[1])
names = forks.dealt([f"{i}" for i in range(40)])

def work(number):
    for name in names:
        (folder / name).touch(exist_ok=False)
        if name == "0":  # longer than all else
            while len(list(folder.iterdir())) < 40:
                time.sleep(0.01)

forks.side_by_side(3, work)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    assert len(list(tmp_path.iterdir())) == 40
