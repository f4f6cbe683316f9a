"""A study on a real SLURM with two GPUs that are none: what its jobs ask for, and what they come through.

SLURM's own records are what is looked at. A training that a test disturbs is stopped (SIGSTOP) after its first
checkpoint, so that it cannot end too early; SLURM lets a process go on before it sends it anything.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from project import Project

HERE = Path(__file__).parent
REGIMES = ["helpful", "harmless", "helpful-harmless"]
MODEL = "reward_models/tiny/{}/seed-0"
Record = dict[str, str]


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


class ClusterProject(Project):
    """The small study of these tests, run through the profile for SLURM."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copy(HERE / "study.yaml", folder)

    @property
    def results(self) -> Path:
        return self.folder / "results" / "cluster"

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "polling.py"), *arguments]
        command += ["--profile", "workflow/profiles/slurm", "--configfile", "study.yaml"]
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src")}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def on_cluster(self, *arguments: str) -> str:
        return finish(self.begin(*arguments))

    def stopped_training(self, regime: str, again: bool = False) -> str:
        """Wait for a checkpoint of a training, stop it there; returns the id of its job."""
        checkpoints = self.results / "checkpoints" / "tiny" / regime
        since = time.time() if again else 0.0
        wait_until(lambda: any(file.stat().st_mtime >= since for file in checkpoints.glob("seed-0*")))
        job = next(r["JobId"] for r in records(f"train_wildcards_tiny_{regime}_0") if r["JobState"] == "RUNNING")
        os.kill(script_of(job), signal.SIGSTOP)
        return job


def finish(main: subprocess.Popen[str]) -> str:
    said = main.communicate(timeout=300)[0]
    assert main.returncode == 0, said[-5000:]
    return said


def records(rule: str = "") -> list[Record]:
    """What SLURM knows of every job, or of the jobs of one rule, in the order of their submission."""
    lines = output_of("scontrol", "show", "job", "--details", "--oneliner").splitlines()
    found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if "JobId=" in line]
    return [r for r in found if r["Comment"].startswith(f"rule_{rule}")]


def script_of(job: str) -> int:
    """Process id of the Python script in a job."""
    for line in output_of("scontrol", "listpids", job).splitlines()[1:]:
        process = line.split()[0]
        command = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        if "python" in command[0] and "/.snakemake/scripts/" in command[1]:
            return int(process)
    raise AssertionError(f"no script in job {job}")


def in_queue() -> list[str]:
    return output_of("squeue", "--noheader", "--format=%i").split()


def times(record: Record) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(record["StartTime"]), datetime.fromisoformat(record["EndTime"])


def most_at_once(jobs: list[Record]) -> int:
    return max(sum(times(job)[0] <= times(one)[0] < times(job)[1] for job in jobs) for one in jobs)


def content(results: Path, part: str = "") -> dict[str, Any]:
    """Every result by its file's name: bytes, and for the log of a training all but the time that it took."""
    found: dict[str, Any] = {}
    for file in sorted((results / part).rglob("*")):
        name = str(file.relative_to(results))
        if file.is_dir() or name.startswith(("logs/", "benchmark/")) or name.endswith(("provenance.json", ".html")):
            continue
        training_log = file.name == "training.parquet"
        found[name] = pl.read_parquet(file).drop("seconds").rows() if training_log else file.read_bytes()
    return found


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    command = str(HERE / "slurm")
    done = subprocess.run([command, "start"], capture_output=True, text=True, timeout=180)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    yield
    subprocess.run([command, "stop"], check=True)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = ClusterProject(tmp_path_factory.mktemp("local") / "project")
    done = project.snakemake("--cores", "2", study="study.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    return project


@pytest.fixture(scope="session")
def finished(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> ClusterProject:
    project = ClusterProject(tmp_path_factory.mktemp("slurm") / "project")
    project.on_cluster()
    return project


@pytest.fixture
def project(finished: ClusterProject, tmp_path: Path) -> ClusterProject:
    """A copy of the finished study without its reward models; no jobs, old or new, in the way."""
    project = ClusterProject(tmp_path / "project")
    for part in ("results", ".snakemake"):
        shutil.copytree(finished.folder / part, project.folder / part, symlinks=True)
    shutil.rmtree(project.results / "reward_models")
    return project


def target(regime: str) -> str:
    return f"results/cluster/{MODEL.format(regime)}"


# --- what jobs ask for -------------------------------------------------------------------------------------------------


def test_jobs_ask_for_what_their_rules_say(finished: ClusterProject) -> None:
    jobs = records()
    rules = {"data": 3, "backbone": 1, "benchmark_comparisons": 1, "train": 3, "activations": 3, "evaluate": 3}
    count = {rule: sum(r["Comment"].startswith(f"rule_{rule}_wildcards") for r in jobs) for rule in rules}
    assert count == rules
    assert len(jobs) == sum(rules.values()) + 1  # and all neurons and sets together; nothing of the local rules
    for job in jobs:
        rule = job["Comment"].removeprefix("rule_").split("_wildcards")[0]
        on_gpu = rule in ("train", "activations", "evaluate")
        assert job["JobState"] == "COMPLETED"
        assert job["Partition"] == ("gpu" if on_gpu else "main")
        assert re.sub(r"\(IDX:[01]\)", "", job["GRES"]) == ("gpu:fake:1" if on_gpu else ""), job
        asked = {"train": ("1100M", 5), "activations": ("1100M", 5), "evaluate": ("1100M", 5), "backbone": ("1100M", 60)}
        memory, minutes = asked.get(rule, ("3000M" if "neurons" in rule else "2000M", 30))
        assert (job["MinMemoryNode"], job["TimeLimit"]) == (memory, f"{minutes // 60:02}:{minutes % 60:02}:00")
    assert most_at_once(records("train")) == 2


def test_results_are_those_of_a_local_run(local: Project, finished: ClusterProject) -> None:
    assert content(finished.results) == content(local.results)


# --- what they come through --------------------------------------------------------------------------------------------


def test_jobs_that_are_lost_go_on_from_their_checkpoints(finished: ClusterProject, project: ClusterProject) -> None:
    """One cancelled, one at its time limit, one requeued and then with its node lost; and the controller restarted."""
    seen = {record["JobId"] for record in records()}
    main = project.begin(*map(target, REGIMES))
    first = [wait_until(lambda r=regime: project.stopped_training(r)) for regime in REGIMES[:2]]
    output_of("scancel", first[0])
    subprocess.run([HERE / "slurm", "restart-controller"], check=True)
    soon = datetime.now() + timedelta(seconds=90)
    output_of("scontrol", "update", f"JobId={first[1]}", f"EndTime={soon:%FT%T}")
    third = project.stopped_training(REGIMES[2])
    output_of("scontrol", "requeue", third)
    assert project.stopped_training(REGIMES[2], again=True) == third
    node = output_of("sinfo", "--noheader", "--format=%n").strip()
    output_of("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    wait_until(lambda: not list(Path("/proc").glob("x")))
    output_of("scontrol", "update", f"NodeName={node}", "State=RESUME")
    finish(main)
    assert content(project.results, "reward_models") == content(finished.results, "reward_models")
    states = {r: [j["JobState"] for j in records(f"train_wildcards_tiny_{r}_0") if j["JobId"] not in seen] for r in REGIMES}
    assert states == {}
    for regime in REGIMES:
        assert "resuming after step" in (project.results / f"logs/train/tiny/{regime}/seed-0.log").read_text()
    assert not in_queue()
