"""What the workflow adds to the work of its jobs, and how long starts take. `make bench-workflow`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks import harness
from benchmarks.harness import ROOT
from rmtension.base.errors import UserError

PARTS = ("Snakefile", "config.yaml", "profiles", "workflow", "src", "resources", "envs", "studies")
STARTS = {
    "python": "pass",
    "import rmtension": "import rmtension",
    "import rmtension.cli": "import rmtension.cli",
    "rmtension --help": "import sys; sys.argv = ['rmtension', '--help']; from rmtension.cli import main; main()",
}
TRIVIAL = """
rule all:
    input: expand("done/{{i}}", i=range({n}))
rule one:
    output: touch("done/{{i}}")
"""


def timed(command: Sequence[str], folder: Path) -> tuple[float, str]:
    """Wall seconds of a command, and what it said."""
    # Snakemake's plugin for SLURM would wait for one that is installed and down.
    elsewhere = {"CUDA_VISIBLE_DEVICES": "", "SLURM_CONF": os.devnull}
    environment = os.environ | {"PYTHONPATH": str(folder / "src")} | elsewhere
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        print((done.stdout + done.stderr)[-3000:], file=sys.stderr)
        raise UserError(f"{' '.join(command[:4])} …: failed, see above; nothing is written")
    return seconds, done.stdout + done.stderr


def copy(folder: Path) -> None:
    """The project without results, so that all is made."""
    folder.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / part, folder / part)


def seconds_of_rules(folder: Path) -> dict[str, float]:
    """Rule -> seconds of all its jobs, by Snakemake's benchmark files: benchmark/{rule}.tsv or benchmark/{rule}/..."""
    jobs = [
        pl.read_csv(file, separator="\t").select(
            rule=pl.lit(file.relative_to(top).parts[0].removesuffix(".tsv")), seconds=pl.col("s").cast(pl.Float64)
        )
        for top in folder.glob("results/*/benchmark")
        for file in top.glob("**/*.tsv")
    ]
    return dict(pl.concat(jobs).group_by("rule").agg(pl.col("seconds").sum()).sort("seconds", descending=True).rows())


def jobs_of(output: str) -> int:
    """Jobs that a dry run counts, the target itself left out."""
    return int(re.findall(r"^total +(\d+)$", output, flags=re.MULTILINE)[-1]) - 1


def main() -> None:
    chosen = harness.options(__doc__, study="config.yaml")
    python, cores = sys.executable, chosen.threads
    snakemake = [python, "-m", "snakemake", "--cores", str(cores)]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        folder, trivial = Path(scratch) / "project", Path(scratch) / "trivial"
        copy(folder)
        study = [] if chosen.study == "config.yaml" else ["--configfile", str(ROOT / chosen.study)]
        dry_run, output = timed([*snakemake, "--dry-run", *study], folder)
        whole, _ = timed([*snakemake, *study], folder)
        again, _ = timed([*snakemake, "--dry-run", *study], folder)
        by_rule = seconds_of_rules(folder)
        paper, paper_output = timed([*snakemake, "--dry-run", "--configfile", "studies/paper.yaml"], folder)
        trivial.mkdir()
        (trivial / "Snakefile").write_text(TRIVIAL.format(n=jobs_of(output)))
        alone, _ = timed(snakemake, trivial)
        starts = {name: min(timed([python, "-c", code], folder)[0] for _ in range(5)) for name, code in STARTS.items()}
    useful = sum(by_rule.values())
    figures = {
        "study": chosen.study, "cores": cores, "jobs": jobs_of(output), "wall_seconds": whole, "job_seconds": useful,
        "rule_seconds": by_rule,
        "overhead": 1 - useful / (cores * whole), "dry_run_seconds": dry_run, "dry_run_seconds_finished": again,
        "trivial_seconds": alone, "paper_jobs": jobs_of(paper_output), "paper_dry_run_seconds": paper,
        "start_seconds": starts,
    }  # fmt: skip
    harness.write("workflow", chosen, figures)
    print("\n".join(f"{name}: {value}" for name, value in figures.items()))


if __name__ == "__main__":
    harness.start(main)
