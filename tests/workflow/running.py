"""A study that runs in the background and can be killed: the processes that belong to it, and what it leaves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from project import Project

MARK = "RMTENSION_TEST_RUN"  # environment variable: every process of a run inherits it
UNCOMPARED = ("logs/", "benchmark/", "provenance/")


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """Snakemake with two cores in a session of its own, marked by its folder; `run.out` has its output."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", "small.yaml"]
    with (project.folder / "run.out").open("w") as output:
        return subprocess.Popen(
            command, cwd=project.folder, env=project.environment | {MARK: str(project.folder)}, text=True,
            stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def processes(project: Project) -> list[int]:
    """Every living process of the project's runs, whatever became of its parents."""
    wanted = f"{MARK}={project.folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def kill_all(project: Project) -> None:
    """As a power loss: every process of the run, at once."""
    for process in processes(project):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def contents(results: Path, part: str = "", without: tuple[str, ...] = ()) -> dict[str, str]:
    """File -> hash of its content, but for logs and times, which differ between two runs, and endings `without`."""
    found = {}
    for file in sorted((results / part).rglob("*")):
        name = str(file.relative_to(results))
        if file.is_file() and not name.startswith(UNCOMPARED) and not name.endswith(without):
            content = file.read_bytes()
            if file.name == "training.parquet":
                content = json.dumps(pl.read_parquet(file).drop("seconds").to_dicts()).encode()
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def leftovers(project: Project) -> list[Path]:
    """Half-written files and checkpoints."""
    return [*project.results.rglob("*.partial"), *(project.results / "checkpoints").rglob("*.pt")]
