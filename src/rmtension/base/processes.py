"""Several processes on one machine that work together, and signals that ask a process to stop."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

from rmtension.base.forks import side_by_side

T = TypeVar("T")
# Variables by which accelerate and transformers would load, divide or train otherwise than the study says.
OF_LAUNCHERS = re.compile(r"ACCELERATE_.*|(LOCAL_)?(RANK|WORLD_SIZE)|(PMI|OMPI_COMM_WORLD|MV2_COMM_WORLD)_SIZE")


def together(processes: int, work: Callable[[], T]) -> T:
    """Do `work` in so many processes joined by torch.distributed; returns what this one, the first, makes of it.

    The others are forked: call it before anything has used a GPU or threads. If one dies, so do all. What launchers of
    other programs have left in the environment counts no more.
    """
    for name in filter(OF_LAUNCHERS.fullmatch, [*os.environ]):
        del os.environ[name]
    if processes == 1:
        return work()
    listener = socket.create_server(("127.0.0.1", 0))
    return side_by_side(processes, lambda rank: join(processes, rank, listener, work))


def join(processes: int, rank: int, listener: socket.socket, work: Callable[[], T]) -> T:
    """Do `work` as one of the processes."""
    port = listener.getsockname()[1]
    torch.set_num_threads(max(torch.get_num_threads() // processes, 1))
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    threads = {"OMP_NUM_THREADS": torch.get_num_threads()}  # without it accelerate would choose a number
    os.environ |= {name: str(value) for name, value in (places | threads).items()}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    served = os.dup(listener.fileno()) if rank == 0 else None
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", port, processes, rank == 0, master_listen_fd=served
    )
    listener.close()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.device_count() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=processes)
    result = work()
    distributed.destroy_process_group()
    return result


def anywhere(here: bool) -> bool:
    """Whether it is so in any of the processes that work together."""
    if not distributed.is_initialized():
        return here
    answer = torch.tensor(float(here))
    distributed.all_reduce(answer)
    return bool(answer)


@contextmanager
def signals_noted(*numbers: signal.Signals) -> Iterator[list[signal.Signals]]:
    """Within the context, these signals end nothing: they are added to the list."""
    noted: list[signal.Signals] = []
    before = {number: signal.signal(number, lambda got, _: noted.append(signal.Signals(got))) for number in numbers}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
