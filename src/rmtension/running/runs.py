"""Which Snakemake process runs a study: what one that was killed leaves behind is explained, or ended.

A killed process leaves its lock, and on a cluster its jobs, which run on: a new process that started the same jobs
again would make two writers of one file.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rmtension.base.errors import UserError
from rmtension.base.files import replacing

PATIENCE = 300  # seconds for cancelled jobs to end; SLURM itself kills them after its KillWait, 30 by default


@dataclass(frozen=True)
class Run:
    """A Snakemake process, as it is written down in a file of its own when it starts its first job."""

    host: str
    process: int
    started: float  # tells apart two processes that got the same number
    log: str  # relative to the folder of the run, which a container may see elsewhere
    numbering: str  # where `process` is the number of this process

    @classmethod
    def this(cls, log: str) -> Run:
        process = psutil.Process()
        return cls(socket.gethostname(), process.pid, process.create_time(), os.path.relpath(log), numbering())

    @classmethod
    def read(cls, file: Path) -> Run:
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{file}: cannot be read, so SLURM jobs of an earlier run may still write: end them if `squeue --me` "
                "shows any, delete the file and start again"
            ) from error

    def is_alive(self) -> bool | None:
        """None where its number says nothing: on another machine, in another container, before a new start."""
        if self.numbering != numbering():
            return None
        try:
            process = psutil.Process(self.process)
            # Reckoned from the time of the last start of the machine, which moves when its clock is set right.
            same = abs(process.create_time() - self.started) < 60
            return same and bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def whereabouts(self) -> str:
        return f"process {self.process} on {self.host}, which cannot be seen from here,"

    def slurm_name(self) -> str | None:
        """The name that all of its SLURM jobs have; None where it ran without SLURM."""
        log = Path(self.log)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        found = re.search(r"SLURM run ID: (\S+)", text)
        return found[1] if found else None


def numbering() -> str:
    """What process numbers are unique in: one start of one machine, and a namespace there, such as a container's."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def registered(folder: Path) -> dict[Path, Run]:
    """All runs of a study that are written down in a folder, dead ones until another one has cleared up after them."""
    return {file: Run.read(file) for file in sorted(folder.glob("*.json"))}


def register(folder: Path, log: str) -> None:
    """Write this process down, after ending what dead ones have left behind. Call it with Snakemake's lock held."""
    for file, run in registered(folder).items():
        alive = run.is_alive()
        if not alive:
            end_jobs(run, is_known_dead=alive is not None)
            file.unlink()
    with (
        replacing(folder / f"{uuid.uuid4().hex}.json") as temporary,
        temporary.open("w", encoding="utf-8") as written,
    ):
        json.dump(asdict(Run.this(log)), written)
        written.flush()
        os.fsync(written.fileno())  # half of it would stop the next run


def of_slurm(run: Run, command: Sequence[str], fault: str) -> str:
    """What a command about a run's jobs prints; UserError with that run, and `fault` for what it does not do."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except OSError as error:
        said = str(error)
    except subprocess.CalledProcessError as error:
        said = error.stderr or str(error)
    first = said.partition("\n")[0]
    raise UserError(
        f"process {run.process} on {run.host} may have left SLURM jobs that still write, and {command[0]} {fault}: "
        f"{first}; end them with `scancel --name={run.slurm_name()}` and start again, or, if these results have left "
        "that cluster, delete .snakemake/runs"
    )


def jobs_of(run: Run, name: str) -> list[str]:
    """Ids of a run's SLURM jobs, which have that name, that have not ended."""
    return of_slurm(run, ["squeue", "--noheader", "--format=%i", f"--name={name}"], "does not answer").split()


def end_jobs(run: Run, is_known_dead: bool) -> None:
    """Cancel the SLURM jobs that a dead run has left behind, and wait until they have ended."""
    name = run.slurm_name()
    left = jobs_of(run, name) if name else []
    if not (name and left):
        return
    if not is_known_dead:
        raise UserError(
            f"{run.whereabouts()} has {len(left)} SLURM jobs of this study: if it runs no more, end them with "
            f"`scancel --name={name}` and start again"
        )
    print(f"cancelling {len(left)} SLURM jobs that process {run.process} left behind", file=sys.stderr)
    of_slurm(run, ["scancel", f"--name={name}"], "does not end them")
    end = time.monotonic() + PATIENCE
    while jobs_of(run, name):
        if time.monotonic() > end:
            raise UserError(f"SLURM jobs named {name} do not end: look at `squeue --name={name}`, then start again")
        time.sleep(1)


def end_own_jobs(log: str) -> None:
    """Of this process, whose run has failed: Ctrl-C while Snakemake's plugin asks for the state of jobs leaves them."""
    try:
        end_jobs(Run.this(log), is_known_dead=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)


def why_locked(folder: Path) -> str:
    """One line on a lock that is held, with the command that helps."""
    try:
        runs = registered(folder).values()
    except UserError as error:
        return str(error)
    for run in runs:
        match run.is_alive():
            case True:
                number = run.process
                return f"process {number} is running this study: wait for it, or end it with `kill -INT {number}`"
            case None:
                return f"{run.whereabouts()} runs this study, or was killed there: {unlock()}"
    return f"the process that ran this study was killed, and left its lock: {unlock()}"


def unlock() -> str:
    """The command that ends this one's lock."""
    arguments = shlex.join([*sys.argv[1:], "--unlock"])
    return f"if no other study runs in this folder, `{sys.executable} -m snakemake {arguments}`, then start again"


def explain_lock(folder: Path) -> Callable[[logging.LogRecord], bool]:
    """A filter of Snakemake's messages that says in one line, with the command that helps, why a study is locked."""

    def shorten(record: logging.LogRecord) -> bool:
        if getattr(record, "exception", None) == "LockException":
            record.msg = f"error: {why_locked(folder)}"
        return True

    return shorten


def pass_on_sigterm() -> None:
    """In a job on a cluster: have every process that Snakemake started get the SIGTERM that Snakemake itself gets.

    SLURM sends its warning to the first process of a job step alone where it tracks processes by cgroups. That is
    Snakemake, which then only waits for its script.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)  # beside the handler that Snakemake sets later

    def pass_on() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGTERM:
                for process in psutil.Process().children(recursive=True):
                    process.terminate()

    threading.Thread(target=pass_on, daemon=True).start()
