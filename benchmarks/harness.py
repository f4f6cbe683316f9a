"""Runs the sides of a benchmark in turn, compares what they computed, and only then writes a line of results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from rmtension.base.errors import UserError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BUDGETS = {"cpu": 1024, "cuda": 16384}  # tokens of a batch, as the studies for a CPU and for GPUs have it

HELP = {
    "backbone": "of benchmarks/workloads.py",
    "source": "folder of HH-RLHF",
    "threads": "of every side",
    "rounds": "turns of every side",
    "seed": "draws the comparisons",
    "pairs": "comparisons of two candidates",
    "prompts": "of RM-Bench, six candidates each",
    "ablations": "sets of neurons",
    "max_tokens": "of a text",
    "budget": "tokens of our batches; 0: 1,024 on a CPU and 16,384 on a GPU",
    "batch_size": "texts in a padded batch",
    "micro_batch": "pairs in a micro-batch of TRL's best setting",
    "study": "a study file, from the top of the project",
}


@dataclass(frozen=True)
class Side:
    """One way to do the work; the first side of a benchmark is ours."""

    name: str
    target: str  # module:function, see benchmarks/side.py
    job: Mapping[str, Any]
    tool: str | None = None  # its environment, .venv-interchange/{tool}; None: ours
    goal: float | None = None  # how many times as long as ours it should take
    compared: bool = True  # whether it computes what ours does; False: it only measures the machine
    settings: str = ""  # for the page

    @property
    def python(self) -> str:
        if self.tool is None:
            return sys.executable
        folder = ROOT / ".venv-interchange" / self.tool
        if not (folder / "installed").exists():
            raise UserError(f"no environment of {self.tool}: run `make {folder.relative_to(ROOT)}/installed`")
        return str(folder / "bin" / "python")


def options(description: str | None, **defaults: int | str) -> argparse.Namespace:
    """The command line of a benchmark: what most have in common, and its own options by their defaults."""
    common: dict[str, int | str] = {
        "backbone": "smollm2-135m", "source": "harmless-base", "threads": len(os.sched_getaffinity(0)), "rounds": 2,
        "seed": 0,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default in (common | defaults).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help=HELP[name])
    parser.add_argument("--device", choices=list(BUDGETS), default="cpu", help="where all sides compute")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the line is added to")
    return parser.parse_args()


def environment(device: str, threads: int, ours: bool, scratch: Path) -> dict[str, str]:
    """Ours finds this checkout's package; another tool's process finds nothing of our environment."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return (
        inherited
        | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "WANDB_MODE": "disabled"}
        | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(scratch / "huggingface")}
        | ({"PYTHONPATH": str(ROOT / "src")} if ours else {})
        | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})
    )


def take_turn(side: Side, device: str, threads: int, scratch: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one side once: what it took, and what it computed."""
    job, result = scratch / "job.json", scratch / "result"
    job.write_text(json.dumps({**side.job, "threads": threads}))
    command = [side.python, "-m", "benchmarks.side", side.target, str(job), str(result)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(device, threads, side.tool is None, scratch), capture_output=True, text=True
    )
    if done.returncode != 0:
        print(done.stderr[-3000:], file=sys.stderr)
        raise UserError(f"{side.name}: failed, see above; nothing is written")
    with np.load(f"{result}.npz") as values:
        return json.loads(Path(f"{result}.json").read_text()), dict(values)


def difference(side: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float) -> float:
    """The largest difference between two sides' values; UserError where it is beyond the tolerance."""
    largest = 0.0
    for name, expected in ours.items():
        if name not in theirs or theirs[name].shape != expected.shape:
            raise UserError(f"{side}: '{name}' has not the shape of ours, {expected.shape}; nothing is written")
        apart = float(np.abs(theirs[name] - expected).max())
        if not np.allclose(theirs[name], expected, rtol=tolerance, atol=tolerance):  # NaN is near nothing
            raise UserError(f"{side}: '{name}' differs from ours by up to {apart:.2g}; nothing is written")
        largest = max(largest, apart)
    return largest


def run_sides(
    sides: Sequence[Side], device: str, threads: int, rounds: int, tolerance: float
) -> dict[str, dict[str, Any]]:
    """Side -> what its turns took, sides in turn, after all agree with the first turn of the first."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here")
    for side in sides:
        _ = side.python  # an environment that is missing shows before an hour is spent
    turns: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    apart = dict.fromkeys(turns, 0.0)
    first: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for _ in range(rounds):
            for side in sides:
                took, values = take_turn(side, device, threads, Path(scratch))
                first = first or values
                if side.compared:
                    apart[side.name] = max(apart[side.name], difference(side.name, first, values, tolerance))
                turns[side.name].append(took)
                print(f"{side.name}: {took['seconds']:.1f} s, {took['peak_memory'] / 1e9:.2f} GB", flush=True)
    return {side.name: summary(side, turns[side.name], apart[side.name]) for side in sides}


def summary(side: Side, turns: Sequence[Mapping[str, Any]], apart: float) -> dict[str, Any]:
    each = ("seconds", "load_seconds", "import_seconds", "peak_memory", "peak_gpu_memory")
    same = ("tokens", "operations", "gpu", "versions")
    return (
        {"settings": side.settings, "goal": side.goal, "difference": apart}
        | {name: [turn[name] for turn in turns] for name in each}
        | {name: turns[0][name] for name in same}
    )


def typical(turns: Sequence[float]) -> float:
    """The middle turn: one that was disturbed does not count."""
    return float(median(turns))


def budget(chosen: argparse.Namespace) -> int:
    """Tokens of our batches."""
    return int(chosen.budget or BUDGETS[chosen.device])


def compare(
    benchmark: str,
    sides: Sequence[Side],
    chosen: argparse.Namespace,
    about: Mapping[str, Any],
    tolerance: float,
    limit_goal: float | None = None,
) -> None:
    """Run the sides and add a line to the results.

    `about`: backbone, comparisons, text_tokens and whatever else the page should know. `limit_goal`: share of the
    machine's rate, which the side named "limit" measures.
    """
    load = os.getloadavg()[0]  # of before: what is seen later is our own
    found = run_sides(sides, chosen.device, chosen.threads, chosen.rounds, tolerance)
    ours, seconds = sides[0].name, {name: typical(side["seconds"]) for name, side in found.items()}
    ratios = {side.name: seconds[side.name] / seconds[ours] for side in sides[1:] if side.compared}
    limit = {}
    if limit_goal is not None:
        reached, possible = (found[name]["operations"] / seconds[name] for name in (ours, "limit"))
        limit = {"rate": reached, "matmul_rate": possible, "share": reached / possible, "goal": limit_goal}
    write(
        benchmark,
        chosen,
        {**about, "tolerance": tolerance, "load_average": load, "ratios": ratios} | {"limit": limit, "sides": found},
    )
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times as long as {ours}")


def write(benchmark: str, chosen: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    """Add a line to {results}/{benchmark}.jsonl: the figures, and of what machine and code they are."""
    about = {
        "benchmark": benchmark, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": commit(),
        "machine": machine(), "device": chosen.device, "threads": chosen.threads, "python": platform.python_version(),
    }  # fmt: skip
    chosen.results.mkdir(parents=True, exist_ok=True)
    with (chosen.results / f"{benchmark}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(about | dict(figures)) + "\n")


def machine() -> dict[str, Any]:
    processors = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processors[0] if processors else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
    }


def commit() -> str | None:
    """The commit of this checkout, marked where the code is not what was committed; None outside git."""
    parts = ["src", "benchmarks", "workflow", ":!benchmarks/results"]
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--", *parts], capture_output=True, text=True)
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("-changed" if changed.stdout else "")


def start(main: Callable[[], None]) -> None:
    """Run a benchmark's command; a user's mistake is one line."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
