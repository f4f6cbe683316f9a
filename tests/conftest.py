"""Fixtures: every family of backbones, and a small study that has been run once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from project import Project
from tiny_models import CONFIGS, random_model


@pytest.fixture(params=sorted(CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(family: str) -> Any:
    return random_model(family)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The small study, run to its end. Tests only read it."""
    project = Project(tmp_path_factory.mktemp("finished") / "project")
    project.run()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished study, free to change."""
    project = Project(tmp_path / "project")
    for part in ("results", ".snakemake"):
        shutil.copytree(finished.folder / part, project.folder / part, symlinks=True)
    return project
