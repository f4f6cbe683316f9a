"""The worker: imports heavy libraries once for a whole Snakemake run, and forks a ready process for each script.

Importing them takes longer than many a job here. Without a worker (on a cluster, by hand, or where it could not start
or has died) scripts simply run cold.

Worker and scripts meet at an abstract socket: the kernel takes its name back with the last process that holds it, so
nothing is left on a disk that another run would have to judge and remove, and no temporary folder is too long for it.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

WORKER = "RMTENSION_WORKER"  # environment variable: the worker's environment and the name of its socket
VISIBLE = "CUDA_VISIBLE_DEVICES"
INSIDE = "RMTENSION_INSIDE_WORKER"
BEGUN = b"+"  # what the worker says when it begins with a script
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # read when huggingface_hub and datasets are imported
ONE_CORE = {"OPENBLAS_NUM_THREADS": "1"}  # read when numpy is imported; a script that runs cold has it from Snakemake
PRELOADED = (
    "snakemake.script",
    "sklearn.linear_model",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "rmtension.engine.training",
    "rmtension.engine.evaluation",
    "rmtension.neurons.sets",
    "rmtension.running.provenance",
)
PACKAGE = Path(__file__).parents[1]
Stamps = dict[str, tuple[int, int]]  # of every module of this package: when its file was written, and its size
workers: list[subprocess.Popen[bytes]] = []  # this process's, which ends when its standard input is closed


# --- in the Snakefile ---------------------------------------------------------------------------------------


def forget_worker() -> None:
    """In a job on a cluster: the worker that it inherited is the submitting machine's, outside its limits."""
    os.environ.pop(WORKER, None)


def start_worker() -> None:
    """Start a worker that lives as long as this process, and tell child processes of it."""
    forget_worker()
    address = f"rmtension-{uuid.uuid4().hex}"
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{address}")
            listener.listen(64)
            number = listener.fileno()
            command = [sys.executable, "-m", "rmtension.running.worker", str(number)]
            worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, pass_fds=[number]
            )
    except OSError as error:
        print(f"warning: {without_worker(error)}", file=sys.stderr)
        return
    workers.append(worker)
    os.environ[WORKER] = f"{sys.prefix}{os.pathsep}{address}"


def without_worker(error: Exception) -> str:
    """Why there is none, and what it means, on one line."""
    reason = " ".join(str(error).split())
    return f"no worker ({reason}): every job imports its libraries itself, which takes some seconds"


# --- in a script ----------------------------------------------------------------------------------------------


def run_in_worker(script: str) -> int | None:
    """Have the worker run a script as if here; returns its exit status. When this process dies, so does the script.

    None where no worker has begun with the script.
    """
    environment, _, address = os.environ.get(WORKER, "").partition(os.pathsep)
    # A script that runs in a conda environment of its own must not be run in the worker's.
    if environment != sys.prefix or INSIDE in os.environ:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(f"\0{address}")
            if not is_of_this_user(connection):
                return None
            connection.sendall(f"{os.getcwd()}\0{script}\n".encode())
            if connection.recv(1) != BEGUN:
                return None
        except OSError:  # it is not there, or died before it came to this script
            return None
        status = connection.recv(16)
    if not status:
        print(f"error: the process that ran {script} died (out of memory?)", file=sys.stderr)
    return int(status or 1)


def is_of_this_user(connection: socket.socket) -> bool:
    """Whether the process at the other end is: an abstract name has no permissions, anybody here can use or take it."""
    _, user, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return bool(user == os.geteuid())


# --- the worker -----------------------------------------------------------------------------------------------


def serve(listener: socket.socket) -> None:
    """Fork a ready process for each script that is sent to the listener, until standard input ends."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    # Python 3.12 warns of any other thread at a fork; this one only waits, and holds nothing that a child could need.
    warnings.filterwarnings("ignore", r".*multi-threaded", DeprecationWarning)
    os.environ |= OFFLINE | ONE_CORE
    before = stamps()
    with without_gpus():
        for module in PRELOADED:
            importlib.import_module(module)
    # Several hundred patterns, which the first model that a process loads has compiled.
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("")
    gc.freeze()  # or each child would look through all that was imported, and so copy it, whenever it collects garbage
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # finished children need no wait
    while True:
        connection, _ = listener.accept()
        if is_of_this_user(connection) and os.fork() == 0:
            listener.close()
            with suppress(OSError, ValueError):  # the client has died
                run_script(connection, before)
            os._exit(1)
        connection.close()


@contextmanager
def without_gpus() -> Iterator[None]:
    """A library may ask for GPUs when it is imported. That can start CUDA, and no process forked then could use one."""
    named = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ""
    try:
        yield
    finally:
        del os.environ[VISIBLE]
        if named is not None:
            os.environ[VISIBLE] = named


def end_with_parent() -> None:
    """Standard input is a pipe from the parent: it ends when the parent does, however that dies."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def stamps() -> Stamps:
    files = ((file, file.stat()) for file in PACKAGE.rglob("*.py"))
    return {str(file): (found.st_mtime_ns, found.st_size) for file, found in files}


def run_script(connection: socket.socket, before: Stamps) -> None:
    """In the forked child: run the script and send its exit status.

    before: this package's modules when they were imported. Where one is another now, the script imports them all anew:
    the files that a job reads are those that its record names.
    """
    if stamps() != before:
        for module in [name for name in sys.modules if name.partition(".")[0] == PACKAGE.name]:
            del sys.modules[module]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder, script = connection.makefile().readline().rstrip("\n").split("\0")
    os.chdir(folder)
    connection.sendall(BEGUN)
    forks = importlib.import_module("rmtension.base.forks")  # the script's own, where that imports all anew
    forks.last_words.append(partial(connection.sendall, b"1"))
    threading.Thread(target=end_with_client, args=(connection,), daemon=True).start()
    os.environ[INSIDE] = "1"
    sys.argv = [script]
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(status).encode())


def end_with_client(connection: socket.socket) -> None:
    connection.recv(1)
    os._exit(1)


if __name__ == "__main__":
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except Exception as error:
        sys.exit(f"warning: {without_worker(error)}")
