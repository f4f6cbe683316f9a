"""What a step is said to depend on, which versions it is said to run on, and the records that jobs leave."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from rmtension.base.environment import environment
from rmtension.base.errors import UserError
from rmtension.running import provenance
from rmtension.running.provenance import (
    code_version,
    module_files,
    read_records,
    registered,
    settings_hash,
    write_record,
)
from rmtension.running.shown import code_of

ROOT = Path(__file__).parents[3]
LOCK = dict(
    re.findall(
        r"^([\w.-]+)==([\w.+]+)(?: ; python_full_version < '3.12')?$",
        (ROOT / "requirements.lock").read_text(),
        flags=re.MULTILINE,
    )
)


def modules(script: str) -> set[str]:
    files = module_files(ROOT / "workflow" / "scripts" / script)
    return {str(file.relative_to(provenance.PACKAGE).with_suffix("")) for file in files}


# Imported where results are computed, and without a say in them: they fetch, check and read.
WITHOUT_A_SAY = {"httpx2", "huggingface_hub", "pydantic", "PyYAML", "safetensors", "threadpoolctl"}


def test_records_have_the_version_of_every_library_that_computes() -> None:
    trees = [
        ast.parse(file.read_text())
        for wing in ("data", "engine", "neurons", "analysis")
        for file in (provenance.PACKAGE / wing).glob("*.py")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    published = packages_distributions()
    libraries = {published[name][0] for name in {name.split(".")[0] for name in imported} if name in published}
    assert libraries - {"rmtension"} - WITHOUT_A_SAY <= environment().keys()


def test_import_closures() -> None:
    subjects = ["accuracy", "score", "ablation", "neuron", "claim", "length", "calibration", "cause", "repair"]
    drawn = {
        "report/figures",
        "report/drawing",
        "report/rules",
        "report/repairs",
        *(f"report/{subject}_figures" for subject in [*subjects, "tension"]),
    }
    study = {"study/stages", "study/section", "study/naming"}
    assert modules("figures.py") == {*drawn, "base/pages", "base/files", "base/forks", "base/sums", *study}
    assert {"engine/ablation", "engine/evaluation", "engine/packing"} <= modules("evaluate.py")
    others = {"engine/training", "engine/activations", "analysis/tables", "data/pairs", "data/synthetic"}
    assert modules("evaluate.py").isdisjoint(others)
    assert "engine/packing" in modules("train.py") and "data/pairs" not in modules("train.py")
    assert modules("data.py").isdisjoint({"data/benchmarks", "data/tasks", "study/benchmarks"})
    another_scoring = {"study/scorings", "neurons/ranking"}
    assert another_scoring <= modules("neurons.py")
    assert another_scoring.isdisjoint(modules("backbone.py") | modules("train.py") | modules("activations.py"))


@pytest.mark.parametrize(
    ("module", "registry"),
    [
        ("analysis.data_cards", "DATA_CARDS"),
        ("analysis.cards", "CARDS"),
        ("analysis.answer_key", "ANSWER_KEY"),
        ("analysis.tables", "TABLES"),
        ("analysis.tables", "DERIVED"),
        ("analysis.holes", "HOLES"),
        ("report.figures", "FIGURES"),
    ],
)
def test_registries_are_read_as_they_are_defined(module: str, registry: str) -> None:
    assert registered(module, registry) == list(getattr(import_module(f"rmtension.{module}"), registry))


@pytest.mark.parametrize("file", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda file: file.name)
def test_conda_environments_have_the_locks_versions(file: Path) -> None:
    listed = yaml.safe_load(file.read_text())["dependencies"][-1]["pip"]
    assert len(listed) > 5
    for requirement in listed:
        name, version = requirement.split("==")
        assert LOCK[name] == version


def test_files_that_snakemake_compares_by_date_are_large_to_records_too() -> None:
    profile = yaml.safe_load((ROOT / "workflow" / "profiles" / "default" / "config.yaml").read_text())
    assert profile["max-checksum-file-size"] == provenance.LARGE


# --- the code's version -----------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit of one module."""
    root = tmp_path / "checkout"
    (root / "src/rmtension").mkdir(parents=True)
    (root / "src/rmtension/module.py").write_text("one")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    monkeypatch.setattr(provenance, "PACKAGE", root / "src/rmtension")
    return root


def test_a_checkout_has_a_commit_and_what_differs_from_it(checkout: Path) -> None:
    (checkout / "study.yaml").touch()  # is no code
    found = code_version()
    assert (found["commit"], found["changed"]) == (git(checkout, "rev-parse", "HEAD"), [])
    (checkout / "src/rmtension/module.py").write_text("two")
    (checkout / "src/rmtension/new.py").touch()
    assert code_version()["changed"] == ["src/rmtension/module.py", "src/rmtension/new.py"]


@pytest.mark.parametrize("name", ["new.py", "folder/new.py", "née 'new'.py"])
def test_what_differs_is_named_whatever_the_user_has_told_git(checkout: Path, name: str) -> None:
    git(checkout, "config", "status.showUntrackedFiles", "no")
    git(checkout, "mv", "src/rmtension/module.py", "src/rmtension/moved.py")
    (checkout / "src" / name).parent.mkdir(exist_ok=True)
    (checkout / "src" / name).touch()
    assert sorted(code_version()["changed"]) == sorted(
        ["src/rmtension/module.py", "src/rmtension/moved.py", f"src/{name}"]
    )


def test_the_commit_is_the_projects_where_a_hook_of_another_repository_starts_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", str(other))
    git(other, "commit", "-q", "--allow-empty", "-m", "other")
    for name, place in {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index"}.items():
        monkeypatch.setenv(name, str(other / place))
    assert (code_version()["commit"], code_version()["changed"]) == (commit, [])


def test_a_package_that_pip_installed_from_a_repository_has_its_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    about = installed / "rmtension-0.dist-info"
    about.mkdir(parents=True)
    shutil.copytree(checkout / "src/rmtension", installed / "rmtension")
    (about / "METADATA").write_text("Name: rmtension\nVersion: 0\n")
    origin = {"url": "https://a/b", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    (about / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(installed))
    assert code_version()["commit"] == git(checkout, "rev-parse", "HEAD")  # it is another package
    monkeypatch.setattr(provenance, "PACKAGE", installed / "rmtension")
    assert (code_version()["commit"], code_version()["changed"]) == ("abc", [])
    (about / "direct_url.json").write_text(json.dumps({"url": "file:///b", "dir_info": {"editable": True}}))
    assert code_version()["no_commit"] == provenance.NO_REPOSITORY


def test_a_sparse_checkout_is_clean(checkout: Path) -> None:
    (checkout / "resources").mkdir()
    (checkout / "resources/tasks.csv").touch()
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "two")
    git(checkout, "sparse-checkout", "set", "src")
    assert not (checkout / "resources").exists()
    assert code_version()["changed"] == []


WITHOUT: dict[str, tuple[Any, str]] = {
    "owner": (lambda checkout, patch: patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1"),
              "git refused: detected dubious ownership in repository at '"),
    "git": (lambda checkout, patch: patch.setenv("PATH", ""), "git cannot be run (No such file or directory)"),
    "commit": (lambda checkout, patch: git(checkout, "update-ref", "-d", "HEAD"), "git refused: ambiguous argument"),
    "whole": (lambda checkout, patch: (checkout / ".git/HEAD").write_text("none"), "git refused: not a git repository"),
    "repository": (lambda checkout, patch: shutil.rmtree(checkout / ".git"), provenance.NO_REPOSITORY),
}  # fmt: skip


@pytest.mark.parametrize("what", WITHOUT)
def test_why_there_is_no_commit_is_said(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    do, reason = WITHOUT[what]
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):  # they may call every folder safe
        monkeypatch.setenv(name, os.devnull)
    do(checkout, monkeypatch)
    found = code_version()
    assert found.keys() == {"version", "no_commit"} and found["no_commit"].startswith(reason)
    assert code_of({"code": found}).endswith(f"no commit: {found['no_commit']}")
    monkeypatch.delenv(provenance.RUN, raising=False)
    provenance.announce("s", [], {})
    warning = f"warning: records of this run will have no commit: {found['no_commit']}\n"
    assert capsys.readouterr().err == (warning if what != "repository" else "")
    assert json.loads(os.environ.pop(provenance.RUN))["code"] == found


def test_below_the_root_of_another_repository_there_is_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = checkout / "unpacked/src/rmtension"
    inner.mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", inner)
    assert code_version()["no_commit"] == provenance.NO_REPOSITORY
    (checkout / "unpacked/.git").mkdir()  # is none
    assert code_version()["no_commit"] == provenance.NO_REPOSITORY


# --- records ----------------------------------------------------------------------------------------------------


class Named(dict[str, Any]):
    """Snakemake's list of things with names."""

    def __iter__(self) -> Iterator[Any]:
        for value in self.values():
            yield from value if isinstance(value, list) else [value]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A job that has read a folder with a linked file and made a file, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(provenance.RUN, "")  # so that it is as before for the tests after this one
    monkeypatch.delenv(provenance.RUN)
    for file, text in {"results/s/folder/a": "aa", "elsewhere/b": "bb", "code.py": "c", "results/s/made": "m"}.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    Path("results/s/folder/checksums.json").symlink_to(Path("elsewhere/b").resolve())
    provenance.announce("s", ["s.yaml"], {"b": 1, "a": 2})
    return SimpleNamespace(
        rule="r", wildcards=Named(seed="3"), params=Named(settings={"epochs": 2}), output=Named(made="results/s/made"),
        input=Named(folder="results/s/folder/checksums.json", code=["code.py"]), log=["results/s/logs/r/seed-3.log"],
    )  # fmt: skip


def write(job: SimpleNamespace, grows: bool = False) -> dict[str, Any]:
    write_record(job, datetime.now(UTC), grows, "cpu")
    return json.loads(Path("results/s/provenance/r/seed-3.json").read_text())  # type: ignore[no-any-return]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_record_says_what_was_read_and_made(job: SimpleNamespace) -> None:
    record = write(job)
    assert record.keys() == provenance.KEYS
    assert (record["rule"], record["wildcards"], record["params"]) == ("r", {"seed": "3"}, {"epochs": 2})
    read = {path: entry["sha256"] for path, entry in record["inputs"].items()}
    assert read == {"results/s/folder/a": sha256("aa"), "results/s/folder/checksums.json": sha256("bb")}
    assert record["inputs"]["results/s/folder/checksums.json"]["link"] == str(Path("elsewhere/b").resolve())
    assert record["outputs"]["results/s/made"]["sha256"] == sha256("m")
    assert record["study"]["sha256"] == settings_hash({"a": 2, "b": 1}) == sha256('{"a": 2, "b": 1}')


def test_what_grows_keeps_the_runs_that_can_have_added_to_it(
    job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "LARGE", 0)  # earlier records are read in any case
    first = write(job)
    second = write(job, grows=True)
    assert [run["ended"] for run in second["earlier"]] == [first["ended"]]
    assert [run["ended"] for run in write(job, grows=True)["earlier"]] == [first["ended"], second["ended"]]
    Path("code.py").write_text("other")
    assert write(job, grows=True)["earlier"] == []
    assert write(job)["earlier"] == []


def test_what_is_edited_during_a_run_is_not_of_its_commit(
    job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(provenance.RUN)
    monkeypatch.setattr(provenance, "code_version", lambda: {"version": "1", "commit": "c", "changed": ["src/b.py"]})
    provenance.announce("s", [], {})
    assert write(job)["code"]["changed"] == ["src/b.py"]
    monkeypatch.setattr(provenance, "PACKAGE", Path("src/rmtension").resolve())
    job.input["code"] += ["src/a.py"]
    for file in ("src/a.py", "code.py"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("edited")
        os.utime(file, (4e9, 4e9))
    assert write(job)["code"]["changed"] == ["code.py", "src/a.py", "src/b.py"]


@pytest.mark.parametrize(("large", "found"), [(1, "aa"), (2, "ab")])
def test_a_file_beyond_large_is_read_once_while_it_stays(
    large: int, found: str, job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of just that size, Snakemake compares by its content."""
    monkeypatch.setattr(provenance, "LARGE", large)
    reads = {"folder": job.input.pop("folder")}
    write(SimpleNamespace(**vars(job) | {"output": Named(reads)}))  # a first job has made the folder
    reader = SimpleNamespace(**vars(job) | {"input": Named(reads), "log": ["results/s/logs/reader.log"]})
    file, times = Path("results/s/folder/a"), Path("results/s/folder/a").stat()

    def hashed() -> str:
        write_record(reader, datetime.now(UTC), False, "cpu")
        return str(read_records(Path("results/s/provenance"))["reader"]["inputs"][str(file)]["sha256"])

    file.write_text("ab")
    assert hashed() == sha256("ab")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert hashed() == sha256(found)  # "aa" as the job found that made it


MADE = "results/s/model/checksums.json"  # stands for its folder


def refused(*read: str) -> str:
    """What is said of files that a run is about to read."""
    try:
        provenance.refuse_altered(map(Path, read), Path("results/s"))
    except UserError as error:
        return str(error)
    return ""


def test_what_is_read_must_be_as_the_job_left_it_that_made_it(job: SimpleNamespace) -> None:
    Path("results/s/model").mkdir()
    files = {name: Path(name) for name in (MADE, "results/s/model/weights", "results/s/made", "mine")}
    for name, file in files.items():
        file.write_text(name)
    write(SimpleNamespace(**vars(job) | {"output": Named({"model": MADE, "made": "results/s/made"})}))
    Path("results/s/model/README.md").write_text("a user's own")
    files["mine"].write_text("no job's")
    os.utime("results/s/made", (1e9, 1e9))
    assert refused(*files) == ""
    first, second = "results/s/made", "results/s/model/weights"
    Path(first).write_text(second)
    os.utime(first, (1e9, 1e9))
    changed = f"{first}: changed after r/seed-3 made it: put it back, or delete it and start again"
    assert refused(MADE, first) == changed and refused(MADE) == ""
    Path(second).write_text(first)
    assert refused(MADE) == f"{second}: changed after r/seed-3 made it: put it back, or delete {MADE} and start again"


def test_what_is_no_record_does_not_count(job: SimpleNamespace) -> None:
    record = write(job)
    for name, content in {"cut": json.dumps(record)[:-9], "list": "[]", "older": json.dumps({"rule": "r"})}.items():
        Path(f"results/s/provenance/{name}.json").write_text(content)
    Path("results/s/provenance/train/gpt2.json").mkdir(parents=True)  # of a model of that name
    assert list(read_records(Path("results/s/provenance"))) == ["r/seed-3"]
