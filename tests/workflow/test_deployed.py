"""The workflow as snakedeploy deploys it: a module that is taken from a repository, its package installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, Project, complaints

ADDRESS = "https://github.com/owner/rmtension"
# What snakedeploy 0.17.1 writes.
DEPLOYED = """from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"


# declare https://github.com/owner/rmtension as a module
module rmtension:
    snakefile: 
        github("owner/rmtension", path="workflow/Snakefile", branch="main")
    config:
        config


# use all rules from https://github.com/owner/rmtension
use rule * from rmtension
"""


class Deployed(Project):
    """A folder with what snakedeploy writes and copies, and the environment that it is run in."""

    def __init__(self, folder: Path) -> None:
        self.origin, self.folder = Project(folder / "origin"), folder / "deployed"
        shutil.copytree(ROOT / "config", self.origin.folder / "config", symlinks=True)
        self.publish()
        self.site = folder / "site-packages"
        shutil.copytree(self.origin.folder / "src" / "rmtension", self.site / "rmtension")
        shutil.copytree(self.origin.folder / "resources", self.site / "rmtension" / "resources")
        for part in ("config", "profiles"):
            shutil.copytree(self.origin.folder / part, self.folder / part)
        [hooks] = re.findall(r"^```python\n(onstart:.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
        (self.folder / "workflow").mkdir()
        (self.folder / "workflow" / "Snakefile").write_text(f"{DEPLOYED}\n\n{hooks}")
        shutil.copy(self.origin.folder / "small.yaml", self.folder / "config" / "config.yaml")

    def publish(self) -> None:
        """The state of the origin as a commit of its main branch."""
        for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "next"]):
            whose = ["-c", "user.name=n", "-c", "user.email=e"]
            subprocess.run(["git", *whose, *command], cwd=self.origin.folder, check=True)

    @property
    def environment(self) -> dict[str, str]:
        instead = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": ADDRESS}
        instead["GIT_CONFIG_KEY_0"] = f"url.{self.origin.folder.as_uri()}.insteadOf"
        cache = str(self.folder.parent / "cache")
        return os.environ | instead | {"XDG_CACHE_HOME": cache, "PYTHONPATH": str(self.site)}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    project = Deployed(tmp_path_factory.mktemp("deployed"))
    # So far that both kinds of environment have run a script.
    done = project.snakemake("--cores", "2", "--until", "data", "backbone", study=None)
    assert done.returncode == 0, complaints(done)
    return project


def planned(project: Deployed, *arguments: str, study: str | None = None) -> dict[str, int]:
    done = project.snakemake("-n", *arguments, study=study)
    assert done.returncode == 0, complaints(done)
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.M)}


def test_the_study_of_the_folder_is_run_as_far_as_asked(deployed: Deployed) -> None:
    assert len(list(deployed.results.glob("data/*/train.parquet"))) == 3
    left = planned(deployed)
    assert left["train"] == 6 and left["all"] == 1 and not {"data", "backbone"} & left.keys()
    assert list((deployed.folder / ".snakemake" / "runs" / "small").iterdir()), "onstart has not run"


def test_another_study_replaces_that_of_the_folder(deployed: Deployed) -> None:
    study = deployed.folder / "other.yaml"
    text = (deployed.folder / "config" / "config.yaml").read_text()
    study.write_text(text.replace("name: small", "name: other").replace("  tiny:", "  another:"))
    assert planned(deployed, study="other.yaml")["backbone"] == 1
    assert planned(deployed, "--config", "seeds=[0]", study="other.yaml")["train"] == 3


def test_a_mistake_names_the_file_of_the_folder(deployed: Deployed) -> None:
    deployed.edit("config/config.yaml", "learning_rate", "learning_rat")
    said = deployed.snakemake("-n", study=None).stderr
    deployed.edit("config/config.yaml", "learning_rat", "learning_rate")
    assert "error: config/config.yaml: training: unknown key 'learning_rat'; did you mean 'learning_rate'?" in said


def test_scripts_see_the_package_and_nothing_that_is_installed_beside_it(deployed: Deployed) -> None:
    (deployed.site / "beside.py").touch()
    told = "from rmtension.running import jobs; jobs.share_package(); import os; print(os.environ['PYTHONPATH'])"
    command = [sys.executable, "-c", told]
    path = subprocess.check_output(command, cwd=deployed.folder, env=deployed.environment, text=True).strip()
    [shared] = [Path(part) for part in path.split(os.pathsep) if part != str(deployed.site)]
    assert [entry.name for entry in shared.iterdir()] == ["rmtension"]
    assert (shared / "rmtension").samefile(deployed.site / "rmtension")


def test_a_change_of_a_script_in_the_repository_runs_its_rule_again(deployed: Deployed) -> None:
    deployed.origin.edit("workflow/scripts/data.py", "tables = ", "made = tables = ")
    deployed.publish()
    assert planned(deployed, "--until", "data", "backbone") == {"data": 3, "total": 3}
