"""Fixtures: every family of backbones, and a small study that has been run once."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from project import Project
from tiny_models import CONFIGS, random_model

from rmtension.base.environment import environment
from rmtension.base.files import sha256

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
def finished(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The small study, run to its end by the first process that asks for it, and kept for other test runs until it is
    of another code or environment. Tests only read it."""
    fresh = Project(tmp_path_factory.mktemp("fresh") / "project")
    files = [file for file in sorted(fresh.folder.rglob("*")) if file.is_file()]
    made_of = [environment(), *((str(file.relative_to(fresh.folder)), sha256(file)) for file in files)]
    name = hashlib.sha256(repr(made_of).encode()).hexdigest()
    kept = pytestconfig.cache.mkdir("finished")
    folder, done = kept / name, kept / f"{name}.done"
    with FileLock(kept.with_name("finished.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            Project(folder).run()
            done.touch()
            for old in sorted(kept.glob("*.done"), key=lambda file: file.stat().st_mtime)[:-3]:  # of those being read
                shutil.rmtree(old.with_suffix(""))
                old.unlink()
    return Project.at(folder)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished study, free to change."""
    project = Project(tmp_path / "project")
    for part in ("results", ".snakemake"):
        shutil.copytree(finished.folder / part, project.folder / part, symlinks=True)
    return project
