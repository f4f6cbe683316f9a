"""A study on a real SLURM with two GPUs that are none: what its jobs ask for, and what they come through.

SLURM's own records are what is looked at. A training that a test disturbs is stopped (SIGSTOP) after its first
checkpoint, so that it cannot end too early, and let go when SLURM's SIGTERM waits for it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from project import Project
from running import contents

HERE = Path(__file__).parent
REGIMES = ["helpful", "harmless", "helpful-harmless"]
MODEL = "reward_models/tiny/{}/seed-0"
ALL = "results/cluster/claims.md"  # and before it everything but the figures and the page, which are local too
Record = dict[str, str]
T = TypeVar("T")
content = partial(contents, without=("provenance.json", ".html"))  # they tell how Snakemake was called


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_until(condition: Callable[[], T | None], seconds: float = 120) -> T:
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
        self.begun: list[subprocess.Popen[str]] = []

    @property
    def results(self) -> Path:
        return self.folder / "results" / "cluster"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.folder / "src")}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "polling.py"), *arguments]
        command += ["--profile", "workflow/profiles/slurm", "--configfile", "study.yaml"]
        main = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.begun.append(main)
        return main

    def kill(self) -> None:
        for main in self.begun:
            main.kill()

    def on_cluster(self, *arguments: str) -> str:
        return finish(self.begin(*arguments))

    def stop_training(self, *stopped: str, regime: str = "") -> Record:
        """Wait until another training than those, or that of `regime`, has written a checkpoint; stop it: its job."""

        def next_one() -> Record | None:
            for job in records(f"train_wildcards_tiny_{regime}_0" if regime else "train"):
                if job["JobState"] != "RUNNING" or job["JobId"] in stopped:
                    continue
                name = job["Comment"].split("_")[4]
                checkpoints = (self.results / "checkpoints" / "tiny" / name).glob("seed-0*")
                if any(file.stat().st_mtime > times(job)[0].timestamp() + 1 for file in checkpoints):
                    process = script_of(job["JobId"])
                    os.kill(process, signal.SIGSTOP)
                    return job | {"regime": name, "process": str(process)}
            return None

        return wait_until(next_one)


Local = tuple[ClusterProject, subprocess.Popen[bytes]]


def finish(main: subprocess.Popen[str]) -> str:
    said = main.communicate(timeout=900)[0]
    assert main.returncode == 0, said[-5000:]
    return said


def records(rule: str = "") -> list[Record]:
    """What SLURM knows of every job, or of the jobs of one rule, in the order of their submission."""
    lines = output_of("scontrol", "show", "job", "--details", "--oneliner").splitlines()
    found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if "JobId=" in line]
    return [job for job in found if job.get("Comment", "").startswith(f"rule_{rule}")]


def script_of(job: str) -> int:
    """Process id of the Python script in a job."""
    for line in output_of("scontrol", "listpids", job).splitlines()[1:]:
        process = line.split()[0]
        command = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        if "python" in command[0] and "/.snakemake/scripts/" in command[1]:
            return int(process)
    raise AssertionError(f"no script in job {job}")


def let_go(training: Record) -> None:
    """Wait until a stopped training has been sent SIGTERM, and let it go on."""
    process = int(training["process"])

    def warned() -> bool:
        pending = re.findall(r"ShdPnd:\s*(\w+)", Path(f"/proc/{process}/status").read_text())[0]
        return bool(int(pending, 16) & 1 << signal.SIGTERM - 1)

    with suppress(FileNotFoundError, ProcessLookupError):  # SLURM may have let it go itself
        wait_until(warned)
        os.kill(process, signal.SIGCONT)


def in_queue() -> list[str]:
    return output_of("squeue", "--noheader", "--format=%i").split()


def times(record: Record) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(record["StartTime"]), datetime.fromisoformat(record["EndTime"])


def most_at_once(jobs: list[Record]) -> int:
    return max(sum(times(job)[0] <= times(one)[0] < times(job)[1] for job in jobs) for one in jobs)


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    command = str(HERE / "slurm")
    done = subprocess.run([command, "start"], capture_output=True, text=True, timeout=180)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    os.environ["SLURM_CONF"] = "/etc/slurm/slurm.conf"
    yield
    output_of("scancel", "--me")  # of a test that failed
    wait_until(lambda: not in_queue())
    subprocess.run([command, "stop"], check=True)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    """The study and its run without SLURM, which goes on while SLURM's waits."""
    project = ClusterProject(tmp_path_factory.mktemp("local") / "project")
    command = ["nice", "-n", "19", sys.executable, "-m", "snakemake", ALL, "--cores", "2", "--configfile", "study.yaml"]
    with (project.folder / "run.out").open("w") as said:
        run = subprocess.Popen(command, cwd=project.folder, env=project.environment, stdout=said, stderr=said)
    return project, run


@pytest.fixture(scope="session")
def finished(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> ClusterProject:
    project = ClusterProject(tmp_path_factory.mktemp("slurm") / "project")
    try:
        project.on_cluster(ALL)
    finally:
        project.kill()
    return project


@pytest.fixture
def project(finished: ClusterProject, tmp_path: Path) -> Iterator[ClusterProject]:
    """A copy of the finished study without its reward models; no jobs, old or new, in the way."""
    project = ClusterProject(tmp_path / "project")
    for part in ("results", ".snakemake"):
        shutil.copytree(finished.folder / part, project.folder / part, symlinks=True)
    shutil.rmtree(project.results / "reward_models")
    yield project
    project.kill()
    output_of("scancel", "--me")
    wait_until(lambda: not in_queue())


def state(job: Record) -> str:
    return next(record["JobState"] for record in records() if record["JobId"] == job["JobId"])


def target(regime: str) -> str:
    return f"results/cluster/{MODEL.format(regime)}/checksums.json"


def trainings(regime: str, before: set[str]) -> list[Record]:
    """The jobs that trained on a regime, those left out that are known from `before`."""
    return [record for record in records(f"train_wildcards_tiny_{regime}_0") if record["JobId"] not in before]


def log_of(project: Project, regime: str) -> str:
    return (project.results / f"logs/train/tiny/{regime}/seed-0.log").read_text()


# --- what jobs ask for ----------------------------------------------------------------------------------------------

ASKED = {  # jobs, memory and minutes of each rule
    "backbone": (1, "1100M", 60),
    "train": (3, "1100M", 5),
    "activations": (3, "1100M", 5),
    "set_activations": (3, "1100M", 5),
    "evaluate": (6, "1100M", 5),
    "lengths": (1, "2000M", 30),
    "words": (3, "3000M", 30),
    "neurons": (3, "1000M", 10),
    "sets": (3, "2000M", 20),  # of each reward model two rules, one after another
}


def test_results_are_those_of_a_local_run(local: Local, finished: ClusterProject) -> None:
    project, run = local
    assert run.wait(900) == 0, (project.folder / "run.out").read_text()[-3000:]
    assert content(finished.results) == content(project.results)


def test_jobs_ask_for_what_their_rules_say(finished: ClusterProject) -> None:
    count = dict.fromkeys(ASKED, 0)
    for job in records():
        rule = re.sub("_(wildcards|select)_.*", "", job["Comment"].removeprefix("rule_"))
        count[rule] += 1
        _, memory, minutes = ASKED[rule]
        on_gpu = rule in ("train", "activations", "set_activations", "evaluate")
        assert job["JobState"] == "COMPLETED"
        assert job["Partition"] == ("gpu" if on_gpu else "main")
        assert job["JOB_GRES"] == ("gpu:fake:1" if on_gpu else "(null)")
        assert (job["MinMemoryNode"], job["TimeLimit"]) == (memory, f"{timedelta(minutes=minutes)}".zfill(8))
    assert count == {rule: jobs for rule, (jobs, _, _) in ASKED.items()}  # so none of the local rules
    assert most_at_once(records("train")) == 2


# --- what they come through -----------------------------------------------------------------------------------------


@pytest.mark.faults
def test_lost_trainings_go_on_from_their_checkpoints(finished: ClusterProject, project: ClusterProject) -> None:
    """One cancelled, one near its time limit, one requeued and then without its node."""
    before = {record["JobId"] for record in records()}
    main = project.begin(*map(target, REGIMES))
    cancelled = project.stop_training()
    limited = project.stop_training(cancelled["JobId"])
    output_of("scancel", cancelled["JobId"])
    let_go(cancelled)
    soon = f"{datetime.now() + timedelta(seconds=90):%FT%T}"  # nearer than the warning that the profile asks for
    output_of("scontrol", "update", f"JobId={limited['JobId']}", f"EndTime={soon}")

    requeued = project.stop_training(limited["JobId"])
    let_go(limited)
    wait_until(lambda: state(limited) == "FAILED")
    output_of("scontrol", "requeue", requeued["JobId"])
    let_go(requeued)
    lost = project.stop_training(regime=requeued["regime"])
    assert lost["JobId"] == requeued["JobId"]
    node = output_of("sinfo", "--noheader", "--format=%n").strip()
    output_of("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    let_go(lost)
    wait_until(lambda: "down" not in output_of("sinfo", "--noheader", "--format=%T"))  # it comes back by itself

    said = finish(main)
    assert content(project.results, "reward_models") == content(finished.results, "reward_models")
    assert not in_queue()
    states = {r["regime"]: [job["JobState"] for job in trainings(r["regime"], before)] for r in (cancelled, limited)}
    assert states == {cancelled["regime"]: ["CANCELLED", "COMPLETED"], limited["regime"]: ["FAILED", "COMPLETED"]}
    again = trainings(limited["regime"], before)[1]
    assert (again["MinMemoryNode"], again["TimeLimit"]) == ("2200M", "00:10:00")
    (same,) = trainings(requeued["regime"], before)
    assert same["JobState"] == "COMPLETED" and int(same["Restarts"]) >= 2
    for regime in REGIMES:
        assert "resuming after step" in log_of(project, regime)
    for failed in (cancelled, limited):
        assert f"logs/train/tiny/{failed['regime']}/seed-0.log" in said


@pytest.mark.faults
def test_a_controller_that_is_away_is_waited_for(finished: ClusterProject, project: ClusterProject) -> None:
    before = {record["JobId"] for record in records()}
    main = project.begin(target("helpful"))
    training = project.stop_training()
    subprocess.run([HERE / "slurm", "restart-controller", "12"], check=True)
    os.kill(int(training["process"]), signal.SIGCONT)
    finish(main)
    assert [job["JobState"] for job in trainings("helpful", before)] == ["COMPLETED"]
    assert content(project.results, MODEL.format("helpful")) == content(finished.results, MODEL.format("helpful"))


@pytest.mark.faults
def test_a_killed_main_process_leaves_no_second_writer(finished: ClusterProject, project: ClusterProject) -> None:
    """Interrupted, then killed, with its lock and a job left behind; the next ones say what to do, and do it."""
    before = {record["JobId"] for record in records()}
    regime = "helpful"
    main = project.begin(target(regime))
    project.stop_training()
    main.send_signal(signal.SIGINT)
    main.communicate(timeout=120)
    assert not in_queue()

    main = project.begin(target(regime))
    left = project.stop_training()
    main.kill()
    main.communicate(timeout=120)
    refused = project.begin(target(regime))
    said = refused.communicate(timeout=120)[0]
    assert refused.returncode != 0
    assert "Directory cannot be locked" not in said
    (line,) = [line for line in said.splitlines() if "left its lock" in line]
    subprocess.run(re.findall("`(.*)`", line)[0], shell=True, check=True, cwd=project.folder, env=project.environment)
    assert state(left) == "RUNNING"

    assert "cancelling 1 SLURM jobs" in project.on_cluster(target(regime))
    assert content(project.results, MODEL.format(regime)) == content(finished.results, MODEL.format(regime))
    assert "resuming after step" in log_of(project, regime)
    jobs = trainings(regime, before)
    assert [job["JobState"] for job in jobs] == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert most_at_once(jobs) == 1


@pytest.mark.faults
def test_more_memory_after_too_little(finished: ClusterProject, project: ClusterProject) -> None:
    before = {record["JobId"] for record in records()}
    project.edit("study.yaml", "mem_mb: 1100", "mem_mb: 450")
    project.on_cluster(target("helpful"))
    first, second = trainings("helpful", before)
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("450M", "900M")
    assert re.search("oom|exceeded memory", Path(first["StdOut"]).read_text())
    assert second["JobState"] == "COMPLETED"
    assert content(project.results, MODEL.format("helpful")) == content(finished.results, MODEL.format("helpful"))
