"""The paper's study, as far as a dry run shows it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from project import STUDY, Project

REWARD_MODELS = 6 * 3 * 3  # models, regimes, seeds
REPAIRED = 6 * 3  # of each repair
SCORED_ON = 4 + 1  # benchmarks, and the validation split
ON_A_GPU = {
    **dict.fromkeys(["activations", "attribution", "set_activations", "conflict"], REWARD_MODELS),
    "train": REWARD_MODELS + 3 * REPAIRED,
    "evaluate": SCORED_ON * (REWARD_MODELS + 4 * REPAIRED),
    "patch": 2 * REPAIRED,
    "passages": 6,  # of the first seed's mixed reward models
    "running_rewards": 6 * 3,  # of the first seed's
    "ensemble": REPAIRED,
}


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Rule and resources of every job."""
    project = Project(tmp_path_factory.mktemp("paper") / "project")
    for file in (project.folder / "workflow" / "rules").glob("*.smk"):
        # Snakemake lists the resources of jobs that have no message.
        file.write_text(re.sub(r"    message:\n.*\n", "", file.read_text()))
    done = project.snakemake("--dry-run", study="studies/paper.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    return re.findall(
        r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", done.stdout + done.stderr, flags=re.M
    )


def test_groups_of_the_cluster_hold_no_training_between_their_jobs(tmp_path: Path) -> None:
    """As of a repair that freezes what the parts' rankings share, and is ranked itself."""
    project = Project(tmp_path / "project")
    shutil.copy(STUDY.with_name("repaired.yaml"), project.folder)
    profile = yaml.safe_load((project.folder / "workflow/profiles/slurm/config.yaml").read_text())
    groups = [f"{rule}={group}" for rule, group in profile["groups"].items()]
    assert project.planned("--groups", *groups, study="repaired.yaml")["select_frozen"] > 0


def test_number_of_jobs(dry_run: list[tuple[str, str]]) -> None:
    rules = [rule for rule, _ in dry_run]
    assert {rule: rules.count(rule) for rule in ON_A_GPU} == ON_A_GPU
    assert rules.count("fetch") == 6 + 1 + 3  # models, HH-RLHF, benchmarks


def test_gpus_are_asked_for_where_one_is_used(dry_run: list[tuple[str, str]]) -> None:
    asked = {rule: set(re.findall(r"gpu=(\d+)", resources)) for rule, resources in dry_run}
    assert {rule for rule, number in asked.items() if number} == set(ON_A_GPU)
    assert all(asked[rule] == {"1"} for rule in ON_A_GPU)
    assert all("gpu=1" in resources for rule, resources in dry_run if rule in ON_A_GPU)
