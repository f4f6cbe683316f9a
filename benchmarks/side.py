"""One side of a benchmark, in a process of its own: warm-up, threads and peak memory are its own too.

python -m benchmarks.side MODULE:FUNCTION JOB.json RESULT

FUNCTION takes the job's keys as arguments and returns `Measured`, which is written to RESULT.json and RESULT.npz. This
module is run in the environments of other tools as well: it imports nothing of this project.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

LIBRARIES = (
    "torch", "transformers", "accelerate", "tokenizers", "trl", "rewardbench", "nnsight", "transformer-lens",
    "rmtension", "snakemake",
)  # fmt: skip


class Measured(NamedTuple):
    """What one side did and what it took."""

    seconds: float  # of the work that is compared
    load_seconds: float  # of making it ready: models loaded, as often as this side does
    tokens: int  # that went through a model, padding included
    values: dict[str, Any]  # what was computed, arrays: all sides must agree
    operations: float = 0  # floating-point operations that the work needs, where that is asked


class Stopwatch:
    """Adds up the seconds of what runs within it, work still under way on a GPU included."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.started = now()

    def __exit__(self, *error: object) -> None:
        self.seconds += now() - self.started

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its calls timed."""

        def timed(*args: Any, **options: Any) -> Any:
            with self:
                return function(*args, **options)

        return timed


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def device() -> torch.device:
    """The harness hides the GPU from a benchmark of the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def warm_up(model: Any) -> None:
    """One short forward pass, so that what a device does only once is not measured."""
    model(input_ids=torch.zeros(1, 8, dtype=torch.long, device=next(model.parameters()).device))


def peak_memory() -> int:
    """Bytes of this process at its largest; ru_maxrss would count the parent's at the fork as well."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"^VmHWM:\s*(\d+) kB", status, flags=re.MULTILINE)[0])


def main(target: str, job_file: str, result: str) -> None:
    job = json.loads(Path(job_file).read_text())
    torch.set_num_threads(job.pop("threads"))
    module, function = target.split(":")
    importing = Stopwatch()
    with importing:
        work = getattr(import_module(module), function)
    measured: Measured = work(**job)
    np.savez(f"{result}.npz", **measured.values)
    found = {
        "seconds": measured.seconds,
        "load_seconds": measured.load_seconds,
        "import_seconds": importing.seconds,
        "tokens": measured.tokens,
        "operations": measured.operations,
        "peak_memory": peak_memory(),
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {library.name: library.version for library in distributions() if library.name in LIBRARIES},
    }
    Path(f"{result}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
