"""Where tensors live and how arithmetic is kept repeatable."""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import takewhile

import torch

from rmtension.base.errors import UserError

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
held: dict[str, socket.socket] = {}  # this process's GPUs, held open as long as it lives


def start_torch(threads: int, gpus: int = 0, precision: str = "float32") -> torch.device:
    """Fix threads, deterministic kernels and GPUs; returns the device to compute on.

    The process sees as many GPUs as it asks for, each to itself, or none; a GPU that CUDA_VISIBLE_DEVICES names several
    times takes as many processes at once. Call it before anything uses a GPU: CUDA looks once. `threads` comes from the
    study and not from --cores: their number changes the last bits of sums.
    UserError where there are GPUs, but too few; where there is none, the CPU does. precision: that the study asks for;
    UserError where a CPU has no instructions for it.
    """
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") != ":16:8":  # no others make the same products each time
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # so that an index is that of nvidia-smi
    # A CPU's products in bfloat16 are made ready for each number of rows, and 1,024 of them are kept, a megabyte each.
    # Batches without padding hardly ever use one again. Those of a batch or two are needed: with none kept, training
    # took five times as long.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)  # with `warn_only`, gradients of fused attention differ from time to time
    # Else every new tensor is filled, which takes training 4 % longer; nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    visible = visible_gpus() if gpus else []
    there = len(set(visible))
    if there and there < gpus:
        raise UserError(f"compute.gpus is {gpus}, but here are {there}: lower it")
    if gpus and not there:
        logger.info("no GPU here: computing on the CPU")
    if precision == "bfloat16" and not there and not multiplies_bfloat16():
        fault = "this CPU has no instructions for it and would take a hundred times as long as in float32"
        raise UserError(f"bfloat16: {fault}: change training.precision, or the model's compute.inference_precision")
    held.update(take_gpus(visible, gpus) if there else {})
    os.environ[VISIBLE] = ",".join(held)
    return torch.device("cuda" if there else "cpu")


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products in bfloat16.

    Else torch makes them one by one: 1.2 GFLOP/s where float32 has 119, on two cores with AVX2.
    """
    return not torch.backends.mkldnn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Within the context, matrix products are taken in float32, tensorfloat32 or bfloat16.

    Weights, norms, and the states that layers add to, are float32 in any case.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tensorfloat32" else "highest")
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def visible_gpus() -> list[str]:
    """Those that CUDA_VISIBLE_DEVICES names and that are there, as often as it names them; without it, all."""
    named = os.environ.get(VISIBLE)
    if named is None:
        return [str(index) for index in range(torch.cuda.device_count())]
    gpus = [*takewhile(bool, map(str.strip, named.split(",")))]  # CUDA looks no further than a gap
    distinct: dict[str, str] = {}  # one may be named by its index, and then by its UUID
    for gpu in gpus:
        distinct.setdefault(identity(gpu), gpu)
    os.environ[VISIBLE] = ",".join(distinct.values())  # where one is named twice, CUDA sees none at all
    there = [*distinct][: torch.cuda.device_count()]
    os.environ[VISIBLE] = named
    return [distinct[identity(gpu)] for gpu in gpus if identity(gpu) in there]


def take_gpus(visible: Sequence[str], count: int) -> dict[str, socket.socket]:
    """So many distinct ones of the visible GPUs with a place free, waiting for them if need be.

    A GPU has a place for a process of this user each time it is visible. It is given back by closing the socket, so
    however the process ends.
    """
    waiting = False
    while True:
        taken: dict[str, socket.socket] = {}
        for i, gpu in enumerate(visible):
            is_new = len(taken) < count and gpu not in taken
            if is_new and (hold := claimed(gpu, visible[:i].count(gpu))):
                taken[gpu] = hold
        if len(taken) == count:
            return taken
        for hold in taken.values():  # rather none than some, or two could wait for each other
            hold.close()
        if not waiting:
            logger.warning("waiting for %d of the GPUs %s (none at all: %s=)", count, ",".join(visible), VISIBLE)
        waiting = True
        time.sleep(random.uniform(0.5, 1.5))


def claimed(gpu: str, place: int = 0) -> socket.socket | None:
    """A socket by a name that only one process at a time can have: a place at a GPU; none if another has it.

    Such names leave no file behind. A SLURM job has names of its own, as it may count its GPUs from 0 on.
    """
    hold = socket.socket(socket.AF_UNIX)
    try:
        hold.bind(f"\0rmtension:{os.getuid()}:{os.environ.get('SLURM_JOB_ID', '')}:{identity(gpu)}:{place}")
    except OSError as error:
        hold.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return hold


def identity(gpu: str) -> str:
    """The UUID of a GPU that is given as CUDA takes it: by its index, its UUID or how that begins."""
    by_index = uuids()
    return by_index.get(gpu) or next((uuid for uuid in by_index.values() if uuid.startswith(gpu)), gpu)


@cache
def uuids() -> dict[str, str]:
    """Index of a GPU -> its UUID; nothing where nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(re.findall(r"^(\d+), (GPU-\S+)$", listed, re.MULTILINE))
