"""A copy of the project in which Snakemake can be run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
PARTS = ["Snakefile", "config.yaml", "profiles", "workflow", "src", "resources", "envs", "studies"]
STUDY = Path(__file__).with_name("small.yaml")
DRY_RUNS = Path(__file__).with_name("dry_runs.py")

# The answer key, the same in every study, takes longer than all else of a small one and has tests of its own.
FEWER = {"repeats: 3": "repeats: 1", "{train: 200, test: 200}": "{train: 20, test: 20}"}

IDLE: list[subprocess.Popen[str]] = []  # processes that make dry runs; they end with this one, as their input does


def dry_run(folder: Path, arguments: list[str]) -> tuple[int, str]:
    """Exit status and output of a dry run, which takes a sixth of the time of `snakemake --dry-run`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = (
        IDLE.pop()
        if IDLE
        else subprocess.Popen(
            [sys.executable, str(DRY_RUNS)], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    )
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps([str(folder), arguments]) + "\n")
    process.stdin.flush()
    status, output = json.loads(process.stdout.readline())
    IDLE.append(process)
    return status, output


def complaints(done: subprocess.CompletedProcess[str]) -> str:
    """What a run said of errors, wherever it did: its end is often about jobs that went well."""
    lines = (done.stdout + done.stderr).splitlines()
    return "\n".join(line for line in lines if "error" in line.lower()) or "\n".join(lines[-30:])


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for part in PARTS:
            origin = ROOT / part
            if origin.is_dir():
                shutil.copytree(origin, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(origin, folder / part)
        shutil.copy(STUDY, folder / "small.yaml")
        for old, new in FEWER.items():
            self.edit("resources/planted.yaml", old, new)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """One that is there already."""
        project = cls.__new__(cls)
        project.folder = folder
        return project

    def copy(self, folder: Path) -> Self:
        """This project with its results in another folder; modification times stay."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return self.at(folder)

    @property
    def results(self) -> Path:
        return self.folder / "results" / "small"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.folder / "src")}

    def snakemake(self, *arguments: str, study: str | None = "small.yaml") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", *arguments]
        command += ["--configfile", study] if study else []
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900, check=False
        )

    def run(self, *arguments: str) -> str:
        done = self.snakemake("--cores", "2", *arguments)
        assert done.returncode == 0, complaints(done)
        return done.stdout + done.stderr

    def planned(self, *arguments: str, study: str | None = "small.yaml") -> dict[str, int]:
        """Rule -> number of jobs that a dry run would start."""
        status, output = dry_run(self.folder, [*arguments, *(["--configfile", study] if study else [])])
        assert status == 0, output[-3000:]
        stats = re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in stats if rule not in ("total", "study")}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
