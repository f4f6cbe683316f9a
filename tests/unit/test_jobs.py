"""Scripts behave the same in the warm worker and cold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rmtension import jobs, provenance

SCRIPT = """
from types import SimpleNamespace
from rmtension import jobs
class Named(dict):
    __iter__ = lambda self: iter(self.values())
snakemake = SimpleNamespace(
    rule="rule", wildcards=Named(model="m"), params=Named(), input=Named(), output=Named(made="results/study/made"),
    log=["results/study/logs/rule/x.log"],
)
job = jobs.start(snakemake)
import logging, os, pathlib, sys, time
from rmtension.errors import UserError
{body}
job.finish()
"""
LOG, RECORD = "results/study/logs/rule/x.log", "results/study/provenance/rule/x.json"


def script(folder: Path, body: str) -> list[str]:
    file = folder / "script.py"
    file.write_text(SCRIPT.format(body=body))
    return [sys.executable, str(file)]


@pytest.fixture(scope="module")
def cold() -> Iterator[dict[str, str]]:
    """An environment as a run of Snakemake gives its jobs, without a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(jobs.WORKER, "")
        patch.setenv(provenance.RUN, json.dumps({"study": {"name": "study"}, "code": {"version": "1"}}))
        yield dict(os.environ)


@pytest.fixture(scope="module")
def warm(cold: dict[str, str]) -> dict[str, str]:
    """The same with a worker, one for all tests, as importing what it preloads takes seconds."""
    jobs.start_worker()
    return dict(os.environ)


@pytest.fixture(params=["cold", "warm"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(request.getfixturevalue(request.param))


def test_output_goes_to_the_log_and_success_is_zero(tmp_path: Path, environment: dict[str, str]) -> None:
    body = "print('out'); logging.info('logged'); pathlib.Path('results/study/made').write_text(os.getcwd())"
    done = subprocess.run(script(tmp_path, body), env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = (tmp_path / LOG).read_text()
    assert "out" in log and "logged" in log
    assert (tmp_path / "results/study/made").read_text() == str(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    assert (record["rule"], record["wildcards"], record["device"]) == ("rule", {"model": "m"}, "cpu")
    assert record["outputs"]["results/study/made"]["sha256"] == hashlib.sha256(bytes(tmp_path)).hexdigest()
    assert record["started"] < record["ended"] and record["earlier"] == []

    # Its output, now there before it, may keep what the first run made.
    assert subprocess.run(script(tmp_path, body), env=environment, cwd=tmp_path).returncode == 0
    [earlier] = json.loads((tmp_path / RECORD).read_text())["earlier"]
    assert earlier["ended"] == record["ended"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("raise UserError('file f, row 3: mend it')", 1, "error: file f, row 3: mend it"),
        ("raise ValueError('a bug')", 1, "Traceback"),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('words')", 1, ""),
    ],
)
def test_failures(tmp_path: Path, environment: dict[str, str], body: str, status: int, said: str) -> None:
    made = "pathlib.Path('results/study/made').touch(); "
    done = subprocess.run(script(tmp_path, made + body), env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status
    log = (tmp_path / LOG).read_text()
    assert said in log
    assert not (tmp_path / RECORD).exists()
    if "UserError" in body:
        assert "Traceback" not in log


def test_a_fault_of_the_code_is_told_from_a_file_that_was_changed(tmp_path: Path, environment: dict[str, str]) -> None:
    """Only a file that its record shows to be another is said to be so; nothing else is to be deleted."""
    made = tmp_path / "results/study/made"

    def run(body: str, read: str = "") -> list[str]:
        command = script(tmp_path, body)
        if read:
            file = tmp_path / "script.py"
            file.write_text(file.read_text().replace("input=Named()", f"input=Named(read={read!r})"))
        subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True)
        return (tmp_path / LOG).read_text().splitlines()

    assert run("pathlib.Path('results/study/made').write_text('good')") == []
    [trace, *_, last] = run("raise KeyError('a bug')", read="results/study/made")
    assert trace.startswith("Traceback")
    assert last.startswith(
        f"error: a fault of rmtension, and no reason to delete anything; please report it with {LOG}"
    )
    made.write_text("bad")
    [trace, *_, last] = run("raise KeyError('a bug')", read="results/study/made")
    assert trace.startswith("Traceback")
    assert last == "error: results/study/made: changed after rule/x made it: put it back, or delete it and start again"


@pytest.mark.parametrize("network", [True, False])
def test_only_a_script_that_asks_for_the_network_has_it(
    tmp_path: Path, environment: dict[str, str], network: bool
) -> None:
    body = "from huggingface_hub import constants; from datasets import config\n"
    body += "print(constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE); pathlib.Path('results/study/made').touch()"
    command = script(tmp_path, body)
    if network:
        file = tmp_path / "script.py"
        file.write_text(file.read_text().replace("start(snakemake", "start(snakemake, network=True"))
    environment = environment | {"HF_DATASETS_OFFLINE": "0"}
    assert subprocess.run(command, env=environment, cwd=tmp_path).returncode == 0
    assert (tmp_path / LOG).read_text().split() == [str(not network)] * 2


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def wait_until(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_killed_client_takes_its_script_along(tmp_path: Path, environment: dict[str, str]) -> None:
    pid_file = tmp_path / "pid"
    body = f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    client = subprocess.Popen(script(tmp_path, body), env=environment, cwd=tmp_path)
    wait_until(lambda: pid_file.exists() and pid_file.read_text())
    client.send_signal(signal.SIGKILL)
    client.wait()
    wait_until(lambda: not alive(int(pid_file.read_text())))


@pytest.mark.parametrize("is_swept", [False, True])
def test_a_worker_ends_with_its_parent(is_swept: bool) -> None:
    """Also where the next run was faster to remove its folder."""
    body = (
        "from rmtension import jobs; import os, time; jobs.start_worker(); print(os.environ[jobs.WORKER], flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", body + "; time.sleep(60)"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    address = Path(parent.stdout.readline().strip().split(os.pathsep)[1])
    assert address.exists()
    (worker,) = [one for one in psutil.process_iter(["cmdline"]) if str(address) in (one.info["cmdline"] or [])]
    if is_swept:
        shutil.rmtree(address.parent)
    parent.kill()
    parent.wait()
    wait_until(lambda: not worker.is_running())
    assert not address.exists()


def test_the_folder_of_a_worker_that_was_killed_goes_with_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(jobs.WORKER, "")
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, living = tmp_path / f"rmtension-{gone.pid}-x", tmp_path / f"rmtension-{os.getpid()}-x"
    for folder in (dead, living):
        folder.mkdir()
        (folder / "worker").touch()
    jobs.start_worker()
    assert (living / "worker").exists() and not dead.exists()
