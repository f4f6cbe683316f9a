"""What a killed Snakemake process leaves behind, with a `squeue` and a `scancel` that only pretend."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rmtension.base.errors import UserError
from rmtension.running import runs
from rmtension.running.runs import Run


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that stands for SLURM's queue: `NAME ID` a line. `scancel` empties it a while after it was called."""
    queue = tmp_path / "queue"
    queue.write_text("a-run 17\na-run 18\nanother-run 19\n")
    commands = {
        "squeue": f'for last; do :; done; sed -n "s/^${{last#--name=}} //p" {queue}',
        "scancel": f'(sleep 0.3; sed -i "/^${{1#--name=}} /d" {queue}) > /dev/null 2>&1 &',
    }
    for name, command in commands.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return queue


def written(tmp_path: Path, run: Run) -> Path:
    """A folder in which a run is written down."""
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "earlier.json").write_text(json.dumps(vars(run)))
    return folder


def run_of(process: int, tmp_path: Path, log: str = "SLURM run ID: a-run\nSubmitted\n") -> Run:
    (tmp_path / "snakemake.log").write_text(log)
    return replace(Run.this(str(tmp_path / "snakemake.log")), process=process, started=1.0)


def test_jobs_of_a_dead_run_are_cancelled_and_waited_for(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, run_of(os.getpid(), tmp_path))  # the same number, started at another time
    runs.register(folder, "new.log")
    assert queue.read_text() == "another-run 19\n"
    assert capsys.readouterr().err.startswith("cancelling 2 SLURM jobs")
    assert list(runs.registered(folder).values()) == [Run.this("new.log")]


def test_a_live_run_and_a_run_without_slurm_are_left_alone(queue: Path, tmp_path: Path) -> None:
    live = Run.this(run_of(0, tmp_path).log)
    folder = written(tmp_path, live)
    runs.register(folder, "new.log")
    assert live in runs.registered(folder).values()
    (folder / "earlier.json").write_text(json.dumps(vars(run_of(2**22 + 1, tmp_path, "Executed locally"))))
    runs.register(folder, "new.log")
    assert len(queue.read_text().splitlines()) == 3


def test_jobs_of_a_run_that_cannot_be_seen_are_the_users_to_end(queue: Path, tmp_path: Path) -> None:
    """On another machine, or under the same host's name in another container: its number is another process's here."""
    folder = written(tmp_path, replace(run_of(os.getpid(), tmp_path), host="login-2", numbering="other"))
    with pytest.raises(
        UserError, match=rf"process {os.getpid()} on login-2, .*has 2 SLURM jobs.*`scancel --name=a-run`"
    ):
        runs.register(folder, "new.log")
    assert [run.host for run in runs.registered(folder).values()] == ["login-2"]
    queue.write_text("another-run 19\n")
    runs.register(folder, "new.log")
    assert list(runs.registered(folder).values()) == [Run.this("new.log")]


def test_without_an_answer_from_slurm_nothing_is_started(queue: Path, tmp_path: Path) -> None:
    folder = written(tmp_path, run_of(7, tmp_path))
    queue.with_name("bin").joinpath("squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="squeue does not answer"):
        runs.register(folder, "new.log")
    assert [run.process for run in runs.registered(folder).values()] == [7]


@pytest.mark.parametrize("command", ["squeue", "scancel"])
def test_a_run_that_fails_and_cannot_end_its_jobs_says_whose_they_are_in_one_line(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    queue.with_name("bin").joinpath(command).write_text("#!/bin/sh\necho Access denied >&2\nexit 1\n")
    runs.end_own_jobs(run_of(0, tmp_path).log)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: process {os.getpid()} on {socket.gethostname()} may have left SLURM jobs")
    assert f"{command} does not " in line and ": Access denied; end them with `scancel --name=a-run`" in line
    assert len(queue.read_text().splitlines()) == 3


def test_a_run_that_fails_ends_its_own_jobs(queue: Path, tmp_path: Path) -> None:
    runs.end_own_jobs(run_of(0, tmp_path).log)
    assert queue.read_text() == "another-run 19\n"


def test_a_lock_is_explained_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["snakemake", "--config", "name=a b"])
    folder = written(tmp_path, run_of(os.getpid(), tmp_path))

    def said(exception: str = "LockException") -> str:
        record = logging.LogRecord("snakemake", logging.ERROR, "", 0, "many\nlines", (), None)
        record.exception = exception
        assert runs.explain_lock(folder)(record)
        return record.getMessage()

    assert "was killed, and left its lock" in said()
    assert f"`{sys.executable} -m snakemake --config 'name=a b' --unlock`" in said()
    assert "\n" not in said()
    assert said("WorkflowError") == "many\nlines"
    (folder / "earlier.json").write_text(json.dumps(vars(Run.this("log"))))
    assert f"`kill -INT {os.getpid()}`" in said() and "--unlock" not in said()
    (folder / "earlier.json").write_text(json.dumps(vars(replace(Run.this("log"), numbering="other"))))
    assert "cannot be seen from here, runs this study, or was killed there" in said()
    (folder / "earlier.json").write_text("")
    assert "earlier.json: cannot be read" in said()


@pytest.mark.parametrize("content", ["", "[1]", '{"host": "h"}', "\xff"])
def test_without_knowing_what_ran_nothing_is_started(queue: Path, tmp_path: Path, content: str) -> None:
    folder = written(tmp_path, run_of(7, tmp_path))
    (folder / "earlier.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"^\S*earlier\.json: cannot be read, .*`squeue --me`"):
        runs.register(folder, "new.log")
    assert [file.name for file in folder.iterdir()] == ["earlier.json"]


def test_process_numbers_are_others_in_a_container() -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
    command += ["from rmtension.running import runs; print(runs.numbering())"]
    inside = subprocess.run(command, capture_output=True, text=True)
    if "unshare" in inside.stderr:
        pytest.skip("needs leave to make a namespace")
    assert inside.stdout.strip() != runs.numbering() == runs.numbering()
