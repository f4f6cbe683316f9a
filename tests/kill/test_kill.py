"""A study killed at random moments and started again each time ends with the bytes of one that was left alone.

KILLS=20 SEED=0 make test-kill
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
import yaml
from project import STUDY, Project
from running import contents, kill_all, leftovers, processes, start, wait_until

from rmtension.study.data import Method

KILLS, SEED = int(os.environ.get("KILLS", "20")), int(os.environ.get("SEED", "0"))
LONGEST = 3600  # seconds of a run that nobody kills


def started_jobs(project: Project) -> list[str]:
    """What Snakemake's logs say was started: the outputs of each job, once for every start."""
    logs = (project.folder / ".snakemake" / "log").glob("*.log")
    return [job for log in sorted(logs) for job in re.findall(r"^    output: (.*)$", log.read_text(), flags=re.M)]


def prepared(folder: Path) -> Project:
    """The small study of one seed and every method by which two regimes come together, with a checkpoint after every
    step, and rules without messages: Snakemake lists their outputs."""
    project = Project(folder)
    study, repaired = (yaml.safe_load(file.read_text()) for file in (STUDY, STUDY.with_name("repaired.yaml")))
    study |= {"seeds": repaired["seeds"], "regimes": repaired["regimes"]}
    assert {regime.get("method", "joint") for regime in study["regimes"].values()} == {*get_args(Method)}
    study["models"]["tiny"]["compute"]["checkpoint_minutes"] = 0
    (project.folder / "small.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    for file in (project.folder / "workflow" / "rules").glob("*.smk"):
        file.write_text(re.sub(r"    message:\n.*\n", "", file.read_text()))
    return project


def trainings_resumed(project: Project, since: float) -> int:
    """Trainings that went on from a checkpoint, of those that have begun `since`."""
    logs = [log for log in (project.results / "logs" / "train").rglob("*.log") if log.stat().st_mtime > since]
    return sum("resuming after step" in log.read_text() for log in logs)


@pytest.mark.skipif(KILLS < 1, reason="KILLS is the number of times that the study is killed")
def test_a_killed_study_ends_as_one_left_alone(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    quiet = prepared(tmp_path / "undisturbed")
    began = time.monotonic()
    assert start(quiet).wait(LONGEST) == 0, (quiet.folder / "run.out").read_text()[-3000:]
    seconds = time.monotonic() - began
    expected, jobs = contents(quiet.results), len(started_jobs(quiet))
    print(f"\nundisturbed: {seconds:.0f} s, {jobs} jobs; seed {SEED}")

    killed = rounds = repeated = resumed = 0
    at: Counter[str] = Counter()
    while killed < KILLS:
        rounds += 1
        since = time.time()
        project = prepared(tmp_path / "killed")
        running = start(project)
        while killed < KILLS:
            # Short and long lives: start-up is hit as well as every stage behind it.
            if wait_until(lambda: running.poll() is not None, chance.uniform(0, seconds / 2)):
                break
            everything = chance.random() < 0.5
            kill_all(project) if everything else running.kill()
            running.wait()
            killed += 1
            assert wait_until(lambda: not processes(project), 600), "processes outlive the main one"
            lines = re.findall(r"^(?:local)?rule (\w+):", (project.folder / "run.out").read_text(), flags=re.M)
            at[lines[-1] if lines else "start"] += 1
            resumed += trainings_resumed(project, since)
            since = time.time()
            unlocked = project.snakemake("--unlock")
            assert unlocked.returncode == 0, unlocked.stderr
            running = start(project)
        assert running.wait(LONGEST) == 0, (project.folder / "run.out").read_text()[-3000:]
        assert contents(project.results) == expected
        assert not leftovers(project)
        assert not processes(project)
        resumed += trainings_resumed(project, since)
        repeated += len(started_jobs(project)) - jobs
        shutil.rmtree(project.folder)
    print(f"{killed} kills in {rounds} runs to the end, after the last job started: {dict(at)}")
    print(f"{repeated} of {rounds * jobs} jobs started again, {repeated / killed:.2f} for each kill; "
          f"{resumed} trainings resumed from a checkpoint")  # fmt: skip
