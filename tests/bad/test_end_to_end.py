"""Bad input through Snakemake and the command line: a failing exit, one line of ours, nothing left behind.

All of it in a folder whose name has a space, letters that are not plain, and marks that a shell would take for its own.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from project import ROOT, Project

from bad import Trap

PAIR = {"chosen": "\n\nHuman: q{}\n\nAssistant: a", "rejected": "\n\nHuman: q{}\n\nAssistant: b"}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("bad") / "Ordner mit ü, 'Zeichen' [1] & $HOME")
    data = project.folder / "Daten ü [2]"
    (data / "model").mkdir(parents=True)
    pairs = [{side: text.format(i) for side, text in PAIR.items()} for i in range(9)]
    (data / "good ones.jsonl").write_text(lines(*pairs))
    (data / "bad.jsonl").write_text(lines(*pairs, {"chosen": "a"}))
    (data / "tasks.json").write_text(json.dumps([{"prompt": "p", "chosen": ["c"], "rejected": [], "task": "t"}]))
    (data / "model/config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (data / "model/pytorch_model.bin").write_bytes(pickle.dumps(Trap(data / "sprung")))
    study = yaml.safe_load((project.folder / "small.yaml").read_text())
    own = {"kind": "own", "train": "good ones.jsonl", "test": "good ones.jsonl", "columns": {"prompt": None}}
    study |= {"data_root": data.name, "sources": {"good": own, "bad": own | {"train": "bad.jsonl"}}}
    study["regimes"] |= {
        "helpful": {"train": ["good"], "test": ["good"]},
        "harmless": {"train": ["bad"], "test": ["bad"]},
    }
    study["models"]["other"] = {"source": {"kind": "pretrained", "path": "model"}}
    study["benchmarks"]["mine"] = {"kind": "own", "path": "tasks.json", "tasks": {"t": "helpful"}}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(study))
    return project


def ours(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of output that are this project's."""
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: ")]


def test_each_bad_input_of_a_study_is_one_line_and_good_ones_go_on(project: Project) -> None:
    targets = {
        "data/helpful/train.parquet": None,
        "data/harmless/train.parquet": "Daten ü [2]/bad.jsonl: row 9: field 'rejected' is missing; found chosen",
        "benchmarks/mine.parquet": "Daten ü [2]/tasks.json: row 0: field 'rejected': an empty list",
        "backbones/other/checksums.json": "Daten ü [2]/model: ",
    }
    done = project.snakemake("--cores", "1", "--keep-going", *(f"results/small/{target}" for target in targets))
    assert done.returncode != 0
    said = set(ours(done))  # the log of a failed job is shown too
    assert len(said) == 3 and "Traceback" not in done.stdout + done.stderr
    for target, message in targets.items():
        assert (project.results / target).exists() == (message is None)
        assert message is None or sum(line.startswith(f"error: {message}") for line in said) == 1, said
    assert not list(project.results.rglob(".*.partial"))
    assert not (project.folder / "Daten ü [2]/sprung").exists()


def test_a_whole_study_can_be_planned_there(project: Project) -> None:
    assert project.planned()["train"] == 12


def ended_at_start(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that Snakemake ended with."""
    assert done.returncode != 0 and "Traceback" not in done.stdout + done.stderr
    [said] = ours(done)
    return said


def test_a_file_dated_in_the_future_ends_the_run_before_its_first_job(project: Project) -> None:
    file = "Daten ü [2]/good ones.jsonl"
    made, log = (project.results / name for name in ("data/helpful/train.parquet", "logs/data/helpful.log"))
    for earlier in (made, log):
        earlier.unlink(missing_ok=True)
    day = time.time() + 86_400
    os.utime(project.folder / file, (day, day))
    arguments = ["--cores", "1", str(made.relative_to(project.folder))]
    said = ended_at_start(project.snakemake(*arguments))
    assert said.startswith(f"error: {file}: dated 2") and not log.exists()
    subprocess.run(said.split("`")[1], cwd=project.folder, shell=True, check=True)
    assert project.snakemake(*arguments).returncode == 0
    assert made.exists()


def test_a_mistake_on_the_command_line_is_said_to_be_there(project: Project) -> None:
    said = ended_at_start(project.snakemake("--cores", "1", "--config", "seeds=abc"))
    assert said == "error: small.yaml, --config: seeds: Input should be a valid list; got 'abc'"


def test_a_key_given_twice_ends_snakemake_which_would_take_the_last(project: Project) -> None:
    study = project.folder / "twice.yaml"
    study.write_text("name: a\n" + (project.folder / "small.yaml").read_text())
    said = ended_at_start(project.snakemake("--cores", "1", study=study.name))
    assert said.startswith("error: twice.yaml: cannot be read (line ") and said.endswith("key 'name' is given twice)")


def test_a_start_from_elsewhere_without_a_study_is_one_line(project: Project) -> None:
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "snakemake", "-n", "-s", "../Snakefile"]
    done = subprocess.run(command, cwd=elsewhere, env=project.environment, capture_output=True, text=True)
    said = ended_at_start(done)
    assert said.startswith("error: no study is named: do so with --configfile") and str(elsewhere) in said
    command += ["--configfile", "../small.yaml", "--config", f"data_root={project.folder / 'Daten ü [2]'}"]
    assert subprocess.run(command, cwd=elsewhere, env=project.environment, capture_output=True).returncode == 0


def test_the_package_of_another_clone_is_refused(project: Project) -> None:
    command = [sys.executable, "-m", "snakemake", "-n", "--configfile", "small.yaml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    said = ended_at_start(subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True))
    own, other = project.folder / "src/rmtension", ROOT / "src/rmtension"
    assert said.startswith(f"error: {own}: not what {sys.executable} imports, which is {other}: take the .venv of this")


def test_a_default_study_that_is_no_yaml_is_one_line(project: Project) -> None:
    good = (project.folder / "config.yaml").read_text()
    (project.folder / "config.yaml").write_text("name: [a\n")
    done = project.snakemake("--cores", "1", study=None)
    (project.folder / "config.yaml").write_text(good)
    assert ended_at_start(done).startswith("error: config.yaml: cannot be read (line 2: ")


def test_a_folder_that_snakemake_cannot_do_with_is_one_line(project: Project) -> None:
    folder = project.folder.rename(project.folder.with_name("{braces}"))
    done = Project.at(folder).snakemake("--cores", "1")
    folder.rename(project.folder)
    expected = "neither Snakemake nor Python can do with braces or colons in a path; rename the folder"
    assert ended_at_start(done) == f"error: {folder}: {expected}"


def test_the_command_line_ends_in_one_line(project: Project) -> None:
    command = [sys.executable, "-c", "from rmtension.cli import main; main()", "plan", "none.yaml"]
    environment = os.environ | {"PYTHONPATH": str(project.folder / "src")}
    done = subprocess.run(
        command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: none.yaml: cannot be read (No such file or directory)\n"
