"""What can go wrong while a study runs on one machine: afterwards it goes on, and ends with the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project
from running import contents, leftovers, processes, start, wait_until

TRAINED = [f"reward_models/tiny/{regime}/seed-{seed}" for regime in ("helpful", "harmless") for seed in (0,)]
TARGETS = [f"results/small/{name}/provenance.json" for name in TRAINED]


@pytest.fixture
def untrained(project: Project) -> Project:
    """The finished study without four of its reward models; training leaves a checkpoint after every step."""
    project.edit("small.yaml", "runtime: 5}", "runtime: 5, checkpoint_minutes: 0}")
    for name in TRAINED:
        shutil.rmtree(project.results / name)
    shutil.rmtree(project.results / "logs")
    return project


def said(project: Project) -> str:
    return (project.folder / "run.out").read_text()


def training(project: Project) -> bool:
    return any((project.results / "logs").rglob("train/**/*.log"))


def goes_on(project: Project, finished: Project) -> None:
    """Started again, without --unlock, the study ends as it should."""
    running = start(project, *TARGETS)
    assert running.wait(900) == 0, said(project)
    assert contents(project.results) == contents(finished.results)
    assert not leftovers(project)


@pytest.mark.parametrize("how", ["interrupt", "interrupt from a terminal", "termination"])
def test_interrupted(untrained: Project, finished: Project, how: str) -> None:
    running = start(untrained, *TARGETS)
    assert wait_until(lambda: training(untrained), 600), said(untrained)
    if how == "interrupt from a terminal":
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.send_signal(signal.SIGTERM if how == "termination" else signal.SIGINT)
    assert running.wait(900) != 0
    assert wait_until(lambda: not processes(untrained), 600), "processes outlive the main one"
    goes_on(untrained, finished)


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_killed_job(untrained: Project, finished: Project) -> None:
    """As by the kernel where memory runs out."""
    running = start(untrained, *TARGETS)
    assert wait_until(lambda: training(untrained), 600), said(untrained)
    command = b"rmtension.running.worker"
    [worker] = [p for p in processes(untrained) if command in Path(f"/proc/{p}/cmdline").read_bytes()
                and parent(p) == running.pid]  # fmt: skip
    children = [process for process in processes(untrained) if parent(process) == worker]
    os.kill(children[0], signal.SIGKILL)
    assert running.wait(900) != 0
    assert "died (out of memory?)" in said(untrained)
    goes_on(untrained, finished)


@pytest.fixture
def small_disk(untrained: Project) -> Iterator[Project]:
    """Results on a disk of their own, with little room left."""
    results = untrained.folder / "results"
    kept = results.rename(untrained.folder / "kept")
    results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(results)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs leave to mount a disk")
    try:
        shutil.copytree(kept, results, dirs_exist_ok=True, symlinks=True)
        yield untrained
    finally:
        subprocess.run(["umount", str(results)], check=True)


def errors(project: Project) -> list[str]:
    return [line for line in said(project).splitlines() if line.startswith("error: ")]


def test_a_full_disk(small_disk: Project, finished: Project) -> None:
    filler = small_disk.folder / "results" / "filler"
    room = shutil.disk_usage(filler.parent).free - 2**17
    filler.write_bytes(bytes(room))
    assert start(small_disk, *TARGETS).wait(900) != 0
    assert any("No space left on device" in line for line in errors(small_disk)), said(small_disk)
    assert not any((small_disk.folder / target).exists() for target in TARGETS)
    filler.unlink()
    goes_on(small_disk, finished)


def test_results_that_may_not_be_written(small_disk: Project, finished: Project) -> None:
    results = str(small_disk.folder / "results")
    subprocess.run(["mount", "-o", "remount,ro", results], check=True)
    assert start(small_disk, *TARGETS).wait(900) != 0
    assert "Read-only file system" in said(small_disk)
    assert "Traceback" not in said(small_disk)
    subprocess.run(["mount", "-o", "remount,rw", results], check=True)
    goes_on(small_disk, finished)
