"""Scripts behave the same in the warm worker and cold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
import pytest

from rmtension.running import provenance, worker

SCRIPT = """
from types import SimpleNamespace
from rmtension.running import jobs, worker
class Named(dict):
    __iter__ = lambda self: iter(self.values())
snakemake = SimpleNamespace(
    rule="rule", wildcards=Named(model="m"), params=Named(), input=Named(), output=Named(made="results/study/made"),
    log=["results/study/logs/rule/x.log"],
)
job = jobs.start(snakemake)
import logging, os, pathlib, sys, time
from rmtension.base.errors import UserError
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
        patch.setenv(worker.WORKER, "")
        patch.setenv(provenance.RUN, json.dumps({"study": {"name": "study"}, "code": {"version": "1"}}))
        yield dict(os.environ)


@pytest.fixture(scope="module")
def warm(cold: dict[str, str]) -> dict[str, str]:
    """The same with a worker, one for all tests, as importing what it preloads takes seconds."""
    worker.start_worker()
    return dict(os.environ)


@pytest.fixture(params=["cold", "warm"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(request.getfixturevalue(request.param))


def test_output_goes_to_the_log_and_success_is_zero(tmp_path: Path, environment: dict[str, str]) -> None:
    body = "print('out'); logging.info('logged'); pathlib.Path('results/study/made').write_text(os.getcwd())"
    body += "; time.sleep(0.002)"  # records have milliseconds, of which a warm job may take none
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


def test_a_log_is_no_program_and_is_open_as_output_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    body = "there = {n: os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')}\n"
    body += "print(*sorted(n for n, place in there.items() if place.endswith('x.log')))\n"
    body += "pathlib.Path('results/study/made').touch()"
    assert subprocess.run(script(tmp_path, body), env=environment, cwd=tmp_path).returncode == 0
    assert (tmp_path / LOG).read_text() == "1 2\n"
    assert (tmp_path / LOG).stat().st_mode & 0o111 == 0


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


def test_what_another_process_fails_by_is_said_and_memory_is_not_blamed(tmp_path: Path, warm: dict[str, str]) -> None:
    body = (
        "from rmtension.base import forks\nforks.PATIENCE = 0\ndef work(number):\n"
        "    if number == 1: raise UserError('row 3: mend it')\n    time.sleep(600)\nforks.side_by_side(2, work)"
    )
    done = subprocess.run(script(tmp_path, body), env=warm, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    said = done.stderr + (tmp_path / LOG).read_text()
    assert done.returncode == 1 and "row 3: mend it" in said and "one of the processes failed" in said
    assert "memory" not in said and not (tmp_path / RECORD).exists()


def test_a_fault_of_the_code_is_no_reason_to_delete_anything(tmp_path: Path, environment: dict[str, str]) -> None:
    subprocess.run(script(tmp_path, "raise KeyError('a bug')"), env=environment, cwd=tmp_path, capture_output=True)
    [trace, *_, last] = (tmp_path / LOG).read_text().splitlines()
    assert trace.startswith("Traceback")
    assert last.startswith(
        f"error: a fault of rmtension, and no reason to delete anything; please report it with {LOG}"
    )


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


def test_a_script_in_the_worker_imports_no_library_of_many_jobs(tmp_path: Path, warm: dict[str, str]) -> None:
    body = "before = set(sys.modules)\n"
    body += "import rmtension.engine.evaluation, rmtension.analysis.words, snakemake.script\n"
    body += "print(*set(sys.modules) - before)\n"
    body += "pathlib.Path('results/study/made').touch()"
    assert subprocess.run(script(tmp_path, body), env=warm, cwd=tmp_path).returncode == 0
    imported = set((tmp_path / LOG).read_text().split())
    assert "rmtension.analysis.words" in imported
    assert not imported & {"polars", "pydantic.main", "sklearn.linear_model", "snakemake.script", "torch"}


def test_a_script_in_the_worker_takes_no_second_core_for_products_of_matrices(
    tmp_path: Path, warm: dict[str, str]
) -> None:
    body = "from threadpoolctl import threadpool_info\n"
    body += "print(*(library['num_threads'] for library in threadpool_info() if library['user_api'] == 'blas'))\n"
    body += "pathlib.Path('results/study/made').touch()"
    assert subprocess.run(script(tmp_path, body), env=warm, cwd=tmp_path).returncode == 0
    assert set((tmp_path / LOG).read_text().split()) == {"1"}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def wait_until(condition: object, seconds: float = 600) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_killed_client_takes_its_script_along(tmp_path: Path, environment: dict[str, str]) -> None:
    pid_file = tmp_path / "pid"
    body = f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    client = subprocess.Popen(script(tmp_path, body), env=environment, cwd=tmp_path)
    wait_until(lambda: pid_file.exists() and pid_file.read_text())
    client.send_signal(signal.SIGKILL)
    client.wait()
    wait_until(lambda: not alive(int(pid_file.read_text())))


def test_a_worker_ends_with_its_parent() -> None:
    body = "import time; from rmtension.running import worker; worker.start_worker(); print('started', flush=True)"
    body += "; time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline()
    (worker,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    wait_until(lambda: not worker.is_running())


# --- a worker that is not as it should be ---------------------------------------------------------------------

WHERE = "print('warm' if worker.INSIDE in os.environ else 'cold'); pathlib.Path('results/study/made').touch()"


def how_it_ran(folder: Path, environment: dict[str, str]) -> str:
    """Whether a script ran warm or cold; it succeeds and says nothing."""
    command = script(folder, WHERE)
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return (folder / LOG).read_text().strip()


@contextmanager
def worker_of(environment: dict[str, str]) -> Iterator[tuple[dict[str, str], list[psutil.Process], list[str]]]:
    """A process that starts a worker: the environment of its jobs, the worker if any, and what both have said then."""
    body = "import json, os; from rmtension.running.worker import start_worker; start_worker()"
    body += "; print(json.dumps(dict(os.environ)))"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{body}; print(flush=True); input()"], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    given = json.loads(parent.stdout.readline())
    said: list[str] = []
    try:
        yield given, psutil.Process(parent.pid).children(), said
    finally:
        said += parent.communicate("\n")[1].splitlines()


@pytest.mark.parametrize("temporary", ["x" * 120, "missing"])
def test_temporary_folders_are_neither_needed_nor_touched(tmp_path: Path, cold: dict[str, str], temporary: str) -> None:
    """Not a folder named as a worker's once was, whatever process its number is of."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    theirs = [tmp_path / f"rmtension-{name}" for name in ("paper-draft", f"{gone.pid}-x", f"{os.getpid()}-x", "1-my")]
    for folder in theirs:
        folder.mkdir()
        (folder / "worker").write_text("mine")
    (tmp_path / ("x" * 120)).mkdir()
    before = sorted(tmp_path.rglob("*"))
    with worker_of(cold | {"TMPDIR": str(tmp_path / temporary)}) as (environment, workers, said):
        work = tmp_path / "work"
        work.mkdir()
        assert workers and how_it_ran(work, environment) == "warm"
    assert said == []
    assert [path for path in sorted(tmp_path.rglob("*")) if work not in [path, *path.parents]] == before
    assert all((folder / "worker").read_text() == "mine" for folder in theirs)


def test_a_script_in_the_worker_runs_the_code_that_is_there_then(tmp_path: Path, cold: dict[str, str]) -> None:
    """Modules that the worker has imported, too; and while they stay as they were, it need not import them again."""
    shutil.copytree(worker.PACKAGE, tmp_path / "src" / "rmtension")
    module = tmp_path / "src" / "rmtension" / "engine" / "packing.py"
    body = "there = 'rmtension.engine.packing' in sys.modules\nfrom rmtension.engine import evaluation, packing\n"
    body += "print(there, packing.PREFIX, evaluation.Packed is packing.Packed)\n"
    body += "pathlib.Path('results/study/made').touch()"

    def said(environment: dict[str, str]) -> str:
        assert subprocess.run(script(tmp_path, body), env=environment, cwd=tmp_path).returncode == 0
        return (tmp_path / LOG).read_text()

    with worker_of(cold | {"PYTHONPATH": str(tmp_path / "src")}) as (environment, _, _):
        assert said(environment) == "True 0 True\n"
        module.write_text(module.read_text().replace("PREFIX = 0", "PREFIX = 7"))
        assert said(environment) == "False 7 True\n"


def test_where_the_worker_dies_its_scripts_go_on_and_others_run_cold(tmp_path: Path, cold: dict[str, str]) -> None:
    body = "open('begun', 'w'); [time.sleep(0.01) for _ in iter(lambda: os.path.exists('end'), True)]\n" + WHERE
    with worker_of(cold) as (environment, [worker], said):
        client = subprocess.Popen(script(tmp_path, body), env=environment, cwd=tmp_path)
        wait_until(lambda: (tmp_path / "begun").exists())
        worker.kill()
        wait_until(lambda: not alive(worker.pid))
        (tmp_path / "end").touch()
        assert client.wait(600) == 0 and (tmp_path / LOG).read_text() == "warm\n"
        assert how_it_ran(tmp_path, environment) == "cold"
    assert said == []


def test_a_worker_that_cannot_import_says_so_and_scripts_run_cold(tmp_path: Path, cold: dict[str, str]) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "accelerate.py").write_text("raise ImportError('half an\\ninstallation')")
    with worker_of(cold | {"PYTHONPATH": str(broken)}) as (environment, [worker], said):
        assert how_it_ran(tmp_path, environment) == "cold"  # sent before the worker has died
        wait_until(lambda: not alive(worker.pid))
        assert how_it_ran(tmp_path, environment) == "cold"
    [line] = said
    assert line.startswith("warning: no worker (half an installation): ")


@pytest.mark.parametrize("missing", ["python", "sockets"])
def test_a_worker_that_cannot_start_is_one_line(
    missing: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(worker.WORKER, "another's")
    if missing == "python":
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
    else:
        monkeypatch.setattr(socket, "AF_UNIX", 99)  # no such family
    worker.start_worker()
    assert worker.WORKER not in os.environ
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: no worker (")


def test_a_script_that_dies_is_one_line(tmp_path: Path, warm: dict[str, str]) -> None:
    command = script(tmp_path, "os.kill(os.getpid(), 9)")
    done = subprocess.run(command, env=warm, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: the process that ran {command[1]} died (out of memory?)\n")


# --- another user's processes ---------------------------------------------------------------------------------

of_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs leave to be another user")
ANOTHER = 65534


def pretend(listener: socket.socket, listens: Event) -> None:
    """As a worker that has run a script, and found nothing wrong."""
    os.setuid(ANOTHER)
    listener.listen()
    listens.set()
    listener.accept()[0].sendall(worker.BEGUN + b"0")


def ask(address: str, request: str) -> None:
    """Of a worker, to run a script."""
    os.setuid(ANOTHER)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{address}")
        with suppress(ConnectionError):
            connection.sendall(request.encode())
            assert connection.recv(9) == b""


@of_root
def test_another_users_socket_is_no_worker(tmp_path: Path, cold: dict[str, str]) -> None:
    address, fork = f"theirs-{os.getpid()}", get_context("fork")
    listens = fork.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        theirs = fork.Process(target=pretend, args=(listener, listens))
        theirs.start()
        assert listens.wait(600)
        assert how_it_ran(tmp_path, cold | {worker.WORKER: f"{sys.prefix}{os.pathsep}{address}"}) == "cold"
        theirs.kill()
        theirs.join()


@of_root
def test_a_worker_runs_nothing_for_another_user(tmp_path: Path, warm: dict[str, str]) -> None:
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    address = warm[worker.WORKER].split(os.pathsep)[1]
    theirs = get_context("fork").Process(target=ask, args=(address, f"{tmp_path}\0{tmp_path / 'theirs.py'}\n"))
    theirs.start()
    theirs.join()
    assert theirs.exitcode == 0
    assert not (tmp_path / "ran").exists()
