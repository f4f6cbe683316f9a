"""Fixtures: every family of backbones, and a small study that has been run once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from project import Project
from tiny_models import CONFIGS, random_model

# Snakemake's plugin asks SLURM for its settings at every start; one that is installed and down answers after nine
# seconds. The tests that have a SLURM set this anew.
os.environ["SLURM_CONF"] = os.devnull

# A busy machine makes no test fail: limits of time are there to end a test that hangs.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(params=sorted(CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(family: str) -> Any:
    return random_model(family)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The small study, run to its end by the first process that asks for it. Tests only read it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder, done = shared / "finished", shared / "finished.done"
    with FileLock(shared / "finished.lock"):
        if done.exists():
            return Project.at(folder)
        project = Project(folder)
        project.run()
        done.touch()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished study, free to change."""
    project = Project(tmp_path / "project")
    for part in ("results", ".snakemake"):
        shutil.copytree(finished.folder / part, project.folder / part, symlinks=True)
    return project
