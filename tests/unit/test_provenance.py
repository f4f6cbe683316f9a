"""What a step is said to depend on, and which versions it is said to run on."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from rmtension.provenance import module_files, registered

ROOT = Path(__file__).parents[2]
LOCK = dict(
    re.findall(
        r"^([\w.-]+)==([\w.+]+)(?: ; python_full_version < '3.12')?$",
        (ROOT / "requirements.lock").read_text(),
        flags=re.MULTILINE,
    )
)


def modules(script: str) -> set[str]:
    return {file.stem for file in module_files(ROOT / "workflow" / "scripts" / script)}


def test_import_closures() -> None:
    assert modules("figures.py") == {"figures", "study", "naming", "files"}
    assert {"ablation", "evaluation", "packing", "reward_model"} <= modules("evaluate.py")
    assert modules("evaluate.py").isdisjoint({"training", "activations", "tables", "readers", "synthetic"})
    assert "packing" in modules("train.py") and "readers" not in modules("train.py")


@pytest.mark.parametrize("name", ["cards.CARDS", "tables.TABLES", "tables.DERIVED", "figures.FIGURES"])
def test_registries_are_read_as_they_are_defined(name: str) -> None:
    module, registry = name.split(".")
    assert registered(module, registry) == list(getattr(import_module(f"rmtension.{module}"), registry))


@pytest.mark.parametrize("file", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda file: file.name)
def test_conda_environments_have_the_locks_versions(file: Path) -> None:
    listed = yaml.safe_load(file.read_text())["dependencies"][-1]["pip"]
    assert len(listed) > 5
    for requirement in listed:
        name, version = requirement.split("==")
        assert LOCK[name] == version
